/** What a run says: one table for the terminal and for docs/performance.md, and the picture beside it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { median } from "../context.ts";
import { amount, renderTable } from "../figures.ts";
import { machineLine } from "../machine.ts";
import { DOCS, markdown, writeTables } from "../published.ts";
import { renderChart } from "./chart.ts";
import { ENGINE, type Peer } from "./peers.ts";
import type { Measured, PeersRun, Row } from "./run.ts";

const CHART = "performance-peers.svg";
const REASON_MAX = 200;

function headOf({ callers, backlog }: PeersRun): string[] {
	const many = `${callers} callers`;
	const drain = `backlog of ${backlog.toLocaleString("en-US")}`;
	return [
		"",
		"synced",
		"1 caller, p50",
		"engine / peer",
		"p99",
		"engine / peer",
		many,
		"engine / peer",
		drain,
		"engine / peer",
	];
}

/** The engine's own row: the median of what it measured beside each peer. */
export function engineOf(rows: readonly Row[]): Measured | undefined {
	const beside = rows.flatMap(({ engine }) => (engine === undefined ? [] : [engine]));
	if (beside.length === 0) return undefined;
	const of = (pick: (measured: Measured) => number): number => median(beside.map(pick));
	return {
		p50: of(({ p50 }) => p50),
		p99: of(({ p99 }) => p99),
		perSecond: of(({ perSecond }) => perSecond),
		drainPerSecond: of(({ drainPerSecond }) => drainPerSecond),
	};
}

function cellsOf(run: PeersRun): string[][] {
	const engine = engineOf(run.rows);
	const rows = engine === undefined ? [] : [figures(ENGINE, engine, undefined)];
	for (const { peer, measured, engine: beside } of run.rows) {
		if (measured === undefined) rows.push([peer.name, yes(peer), ...Array.from({ length: 8 }, () => "–")]);
		else rows.push(figures(peer, measured, beside));
	}
	return rows;
}

function figures(peer: Peer, measured: Measured, engine: Measured | undefined): string[] {
	const cells = (unit: string, pick: (measured: Measured) => number): [string, string] => [
		amount(pick(measured), unit),
		engine === undefined ? "–" : `${(pick(engine) / pick(measured)).toFixed(2)} ×`,
	];
	return [
		peer.name,
		yes(peer),
		...cells("ms", ({ p50 }) => p50),
		...cells("ms", ({ p99 }) => p99),
		...cells("/s", ({ perSecond }) => perSecond),
		...cells("/s", ({ drainPerSecond }) => drainPerSecond),
	];
}

function yes({ synced }: Peer): string {
	return synced ? "yes" : "no";
}

/** A line for each peer that was not measured. */
function leftOut({ rows }: PeersRun): string[] {
	return rows.flatMap(({ peer, left }) => (left === undefined ? [] : [`${peer.name} is left out: ${short(left)}`]));
}

function short(reason: string): string {
	// Where the checkout stands is nobody's business.
	const line = reason.replaceAll(/\s+/g, " ").replaceAll("|", "/").replaceAll(join(DOCS, "../"), "");
	return line.length > REASON_MAX ? `${line.slice(0, REASON_MAX)}…` : line;
}

export function renderText(run: PeersRun): string {
	const versions = run.rows.map(({ peer, version }) => `${peer.name} ${version}`).join(" · ");
	return [renderTable(headOf(run), cellsOf(run)), "", ...leftOut(run), versions].join("\n");
}

function renderPage(run: PeersRun): string {
	const promises = [
		{ peer: ENGINE, version: "this version" },
		...run.rows.map(({ peer, version }) => ({ peer, version })),
	].map(({ peer, version }) => [peer.name, version, peer.durability, peer.processes, peer.waiting]);
	return [
		`${machineLine(run.machine)}. Medians of ${run.rounds} ${run.rounds === 1 ? "round" : "rounds"}.`,
		markdown(headOf(run), cellsOf(run)),
		...leftOut(run),
		`![The same figures as bars](${CHART})`,
		markdown(["", "version", "what is written before it answers", "processes", "how the result is seen"], promises),
	].join("\n\n");
}

export function writePage(run: PeersRun): void {
	writeTables("peers", renderPage(run));
	const engine = engineOf(run.rows);
	const bars = run.rows.flatMap(({ peer, measured }) => (measured === undefined ? [] : [{ peer, measured }]));
	if (engine === undefined) return;
	writeFileSync(join(DOCS, CHART), renderChart([{ peer: ENGINE, measured: engine }, ...bars], run));
}
