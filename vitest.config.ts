import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/native/**", "test/types/**"],
    pool: "forks", // the addon runs in child processes: a crash names its test file and spares the others
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
