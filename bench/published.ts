/** What a run publishes: tables of docs/performance.md, between markers; the rest of the page is written by hand. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const DOCS = join(import.meta.dirname, "../docs");
const PAGE = join(DOCS, "performance.md");

export function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
	const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
	return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Replaces what stands between `<!-- name:begin -->` and `<!-- name:end -->`. */
export function writeTables(name: "bench" | "growth" | "peers", text: string): void {
	const page = readFileSync(PAGE, "utf8");
	const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
	const [from, to] = [page.indexOf(begin), page.indexOf(end)];
	if (from < 0 || to < from) throw new Error(`expected ${begin} and ${end} in ${PAGE}`);
	writeFileSync(PAGE, `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`);
}
