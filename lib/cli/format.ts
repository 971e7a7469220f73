/** Numbers and tables for people. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `1.5 MiB`, `312 B`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** `0.8 ms`, `412 ms`, `3.2 s`, `2 min 5 s`. */
export function formatMs(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** `310.3 M`, `2.01 B`. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} B`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`;
  if (count >= 1e3) return `${(count / 1e3).toFixed(1)} k`;
  return String(count);
}

/** Rows with columns as wide as their widest cell; cells that start with a digit are set right. */
export function formatTable(rows: readonly (readonly string[])[], indent = "  "): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  const isNumeric = widths.map((_, column) => rows.slice(1).every((row) => /^[\d-]/.test(row[column] ?? "-")));
  const lines = rows.map((row) => {
    const cells = row.map((cell, column) =>
      isNumeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
    );
    return `${indent}${cells.join("  ")}`.trimEnd();
  });
  return `${lines.join("\n")}\n`;
}

/** `name   value` lines under a heading. */
export function formatSection(title: string, entries: readonly (readonly [string, string])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length));
  const lines = entries.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`.trimEnd());
  return `${title}\n${lines.join("\n")}\n`;
}

/** A file name out of a label: its first synonym, lower case, words joined by a dash. */
export function slug(label: string): string {
  const first = label.split(",", 1)[0]!.normalize("NFKD").toLowerCase();
  return (
    first
      .replace(/\p{M}/gu, "")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 60) || "image"
  );
}
