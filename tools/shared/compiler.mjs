// What the machine has for compiling C++.

import { existsSync } from "node:fs";
import { works } from "./run.mjs";

export const compiler = process.env.CXX ?? "c++";

/** Homebrew's folders, where Apple's compiler does not look by itself (CMake does). */
const extraIncludes =
  process.platform === "darwin"
    ? ["/opt/homebrew/include", "/usr/local/include"].filter(existsSync).map((folder) => `-I${folder}`)
    : [];

/** Whether the compiler finds a header such as `gtest/gtest.h`. */
export const hasHeader = (name) => works(compiler, [...extraIncludes, "-E", "-x", "c++", "-"], `#include <${name}>\n`);
