/** Runs test programs of their own process against the built package, and reads the JSON of their last line. */

import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.url));

export interface ChildResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export function runChild(program: string, args: string[] = [], nodeArgs: string[] = []): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...nodeArgs, join(folder, program), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Fails with the program's own words unless it ended well. */
export async function childJson<T>(program: string, args: string[] = [], nodeArgs: string[] = []): Promise<T> {
  const { code, signal, stdout, stderr } = await runChild(program, args, nodeArgs);
  if (code !== 0) throw new Error(`${program} ended with ${signal ?? code}: ${stderr || stdout}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as T;
}
