/** The command line as a whole: help, versions, misspellings. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runCli } from "./support/cli.js";

const COMMANDS = ["generate", "convert", "inspect", "doctor"];

test("help names every command, goes to stdout and exits with 0", async () => {
  const { code, stdout, stderr } = await runCli(["--help"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  for (const command of COMMANDS) expect(stdout).toContain(`  ${command} `);
  expect(stdout).toContain("Examples:");
});

test.each(COMMANDS)("help of %s has its options and examples", async (command) => {
  const { code, stdout } = await runCli([command, "--help"]);
  expect(code).toBe(0);
  expect(stdout).toContain("--json");
  expect(stdout).toMatch(new RegExp(`\\$ nextscale ${command}`));
  expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThan(121);
});

test("every option of a command is in docs/cli.md", async () => {
  const docs = readFileSync(new URL("../docs/cli.md", import.meta.url), "utf8");
  for (const command of COMMANDS) {
    const { stdout } = await runCli([command, "--help"]);
    const options = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)]
      .map((match) => match[1]!)
      .filter((name) => name !== "--help");
    expect(options).toContain("--json");
    const section = docs.split(`## \`nextscale ${command}`)[1]?.split("\n## ")[0] ?? "";
    for (const option of options)
      expect(`${command}: ${section.includes(`\`${option}`)} ${option}`).toBe(`${command}: true ${option}`);
  }
});

test("no command at all prints help as an error of usage", async () => {
  const { code, stdout, stderr } = await runCli([]);
  expect(code).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).toContain("Usage: nextscale");
});

test("the version is the package's", async () => {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  expect(await runCli(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
});

test("misspelt commands and options get a suggestion and exit code 2", async () => {
  const command = await runCli(["genrate"]);
  expect(command.code).toBe(2);
  expect(command.stderr).toMatch(/^error \[INVALID_OPTION\]: unknown command 'genrate'\s+\(Did you mean generate\?\)/);
  const option = await runCli(["generate", "--guidence", "2"]);
  expect(option.code).toBe(2);
  expect(option.stderr).toMatch(/unknown option '--guidence'\s+\(Did you mean --guidance\?\)/);
  expect(option.stdout).toBe("");
});

test("no help of a command that does not exist", async () => {
  for (const flag of ["--help", "-h"]) {
    const { code, stdout, stderr } = await runCli(["genrate", flag]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/unknown command 'genrate'\s+\(Did you mean generate\?\)/);
  }
  expect((await runCli(["help", "generate"])).stdout).toContain("--top-k <n>");
});
