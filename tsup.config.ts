import { defineConfig } from "tsup";

export default defineConfig([
  {
    entry: { index: "lib/index.ts" },
    format: ["esm", "cjs"],
    dts: true,
    target: "node20",
    platform: "node",
    sourcemap: true,
    clean: true,
    shims: true, // import.meta.url in the CommonJS build
    splitting: false,
    noExternal: ["@sinclair/typebox"], // hundreds of small files: loading them costs more than the whole package
  },
  {
    entry: { cli: "lib/cli/main.ts" },
    format: ["esm"],
    target: "node20",
    platform: "node",
    sourcemap: true,
    shims: false,
    splitting: true,
    noExternal: ["@sinclair/typebox"],
  },
  {
    // For tools/option-docs.mjs, which writes their words into the declarations; no part of the package.
    entry: ["lib/options/*.ts"],
    outDir: "build/options",
    format: ["esm"],
    target: "node20",
    platform: "node",
    splitting: true,
    clean: true,
  },
  {
    entry: { svg: "lib/plot/svg.ts" }, // for bench/elastic.mjs; no part of the package
    outDir: "build/bench",
    format: ["esm"],
    target: "node20",
    platform: "node",
  },
]);
