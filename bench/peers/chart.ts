/**
 * The picture of a run: three groups of bars as an SVG without scripts. Colours are named by class and change with the
 * reader's preference; a bar of work that is not synced is hollow, so that the two kinds are not compared by accident.
 */
import { amount } from "../figures.ts";
import { ENGINE, type Peer } from "./peers.ts";
import type { Measured } from "./run.ts";

export interface Bar {
	readonly peer: Peer;
	readonly measured: Measured;
}

const WIDTH = 760;
const LABEL_WIDTH = 150;
const VALUE_WIDTH = 90;
const ROW = 22;
const TITLE = 34;
const NOTE = 30;

const STYLE = `
	text { font: 13px system-ui, sans-serif; fill: #1f2328 }
	.title { font-weight: 600 }
	.note { fill: #59636e }
	.peer { fill: #8c959f; stroke: #8c959f }
	.engine { fill: #0969da; stroke: #0969da }
	.unsynced { fill: none; stroke-dasharray: 4 2 }
	.ground { fill: #ffffff }
	@media (prefers-color-scheme: dark) {
		text { fill: #f0f6fc }
		.note { fill: #9198a1 }
		.engine { fill: #4493f8; stroke: #4493f8 }
		.ground { fill: #0d1117 }
		.unsynced { fill: none }
	}
`;

export function renderChart(bars: readonly Bar[], run: { readonly callers: number; readonly backlog: number }): string {
	const groups: readonly (readonly [title: string, unit: string, pick: (measured: Measured) => number])[] = [
		["Time to the result, 1 caller, p50 (shorter is better)", "ms", ({ p50 }) => p50],
		[`Results per second, ${run.callers} callers (longer is better)`, "/s", ({ perSecond }) => perSecond],
		[
			`Results per second, backlog of ${run.backlog.toLocaleString("en-US")} (longer is better)`,
			"/s",
			({ drainPerSecond }) => drainPerSecond,
		],
	];
	const groupHeight = TITLE + bars.length * ROW;
	const height = groups.length * groupHeight + NOTE;
	const drawn = groups.map(([title, unit, pick], index) => {
		const top = index * groupHeight;
		const most = Math.max(...bars.map(({ measured }) => pick(measured)));
		const rows = bars.map(({ peer, measured }, row) => {
			const y = top + TITLE + row * ROW;
			const value = pick(measured);
			const length = Math.max(1, (value / most) * (WIDTH - LABEL_WIDTH - VALUE_WIDTH));
			const kind = `${peer === ENGINE ? "engine" : "peer"}${peer.synced ? "" : " unsynced"}`;
			return [
				`<text x="${LABEL_WIDTH - 8}" y="${y + 13}" text-anchor="end">${peer.name}</text>`,
				`<rect class="${kind}" x="${LABEL_WIDTH}" y="${y + 2}" width="${length.toFixed(1)}" height="${ROW - 8}"/>`,
				`<text x="${(LABEL_WIDTH + length + 6).toFixed(1)}" y="${y + 13}">${amount(value, unit)}</text>`,
			].join("");
		});
		return [`<text class="title" x="8" y="${top + 22}">${title}</text>`, ...rows].join("\n");
	});
	return [
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="The engine and other job queues, side by side">`,
		`<style>${STYLE}</style>`,
		`<rect class="ground" width="${WIDTH}" height="${height}"/>`,
		...drawn,
		`<text class="note" x="8" y="${height - 10}">Filled: on the disk before it answers. Hollow: written, but not synced.</text>`,
		"</svg>\n",
	].join("\n");
}
