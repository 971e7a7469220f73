/** The command line as a function: words and a context in, an exit code out. */

import { Command } from "commander";
import { convertCommand } from "./commands/convert.js";
import { doctorCommand } from "./commands/doctor.js";
import { editCommand } from "./commands/edit.js";
import { evaluateCommand } from "./commands/evaluate.js";
import { generateCommand } from "./commands/generate.js";
import { inspectCommand } from "./commands/inspect.js";
import { sampleCommand } from "./commands/sample.js";
import { tokenizeCommand } from "./commands/tokenize.js";
import { trainCommand } from "./commands/train.js";
import { type CliContext, isRich, printJson } from "./context.js";
import { reportFailure } from "./report.js";
import { packageVersion } from "./version.js";

const EXAMPLES = `
Examples:
  $ nextscale generate                       ten handwritten digits with the bundled model -> nextscale.png
  $ nextscale generate 3 7 --depth 4 --bridge 3 --show
  $ nextscale edit nextscale.png 8 --rect 8,16,16,16 -o edited.png
  $ nextscale convert var_d16.pth vae_ch160v4096z32.pth -o d16.safetensors --dtype bf16
  $ nextscale inspect d16.safetensors
  $ nextscale doctor

Every command takes --json for scripts and --help for its own options and examples.
`;

/** Runs one command. Never throws and never ends the process. */
export async function run(words: readonly string[], context: CliContext): Promise<number> {
  const json = words.includes("--json");
  const program = createProgram(context, json);
  try {
    await program.parseAsync(askingForHelp(program, words), { from: "user" });
    return 0;
  } catch (error) {
    return reportFailure(error, context, json);
  }
}

/** A command that does not exist has no help to show: without the flag, commander says so, and what was meant. */
function askingForHelp({ commands }: Command, words: readonly string[]): string[] {
  const [name = "-"] = words;
  const exists = name.startsWith("-") || name === "help" || commands.some((command) => command.name() === name);
  return words.filter((word) => exists || (word !== "--help" && word !== "-h"));
}

function createProgram(context: CliContext, json: boolean): Command {
  const program = new Command("nextscale")
    .description("Next-scale image generation (VAR): generate, edit, convert, inspect.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help of a command")
    .addHelpText("after", EXAMPLES);
  for (const create of [
    generateCommand,
    editCommand,
    convertCommand,
    inspectCommand,
    tokenizeCommand,
    trainCommand,
    evaluateCommand,
    sampleCommand,
    doctorCommand,
  ]) {
    program.addCommand(create(context));
  }
  for (const command of [program, ...program.commands]) configure(command, context, json);
  return program;
}

/** Our streams, our error format, and no process.exit. */
function configure(command: Command, context: CliContext, json: boolean): void {
  const { stdout, stderr, env } = context;
  command
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      getOutHasColors: () => isRich(stdout, env),
      getErrHasColors: () => isRich(stderr, env),
      getOutHelpWidth: () => Math.min(stdout.columns || 100, 120),
      getErrHelpWidth: () => Math.min(stderr.columns || 100, 120),
      outputError: (text, write) => {
        const message = text.replace(/^error: /, "").trimEnd();
        write(`error [INVALID_OPTION]: ${message}\nhint: add --help to see the options\n`);
        if (json) printJson(context, { error: { code: "INVALID_OPTION", message, hint: null } });
      },
    });
}
