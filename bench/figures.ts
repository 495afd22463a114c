/**
 * What a figure is and how it is judged, and the table of all figures.
 *
 * A ratio is always to something measured in the same run, because a machine is a different one an hour later. The
 * limits are those that the project has set itself; a limit that another machine cannot be held to has no verdict.
 */
export type Unit = "ms" | "/s" | "MB" | "at once" | "%";

export interface Figure {
	readonly name: string;
	readonly unit: Unit;
	readonly measured: number;
	/** What it is compared with, in the same unit. */
	readonly base?: { readonly name: string; readonly value: number };
	/** Where both took turns: the median of the ratios of each turn. Absent: `measured` to `base`. */
	readonly ratio?: number;
	/** At most or at least: of the value, or of the ratio to the base. Absent: shown, not judged. */
	readonly limit?: { readonly of: "value" | "ratio"; readonly atMost?: number; readonly atLeast?: number };
	readonly remark?: string;
	/** The same figure at each size; `measured` is the last, `base` the first. */
	readonly curve?: Curve;
}

export interface Curve {
	/** What there is more and more of. */
	readonly of: string;
	/** What is measured. */
	readonly name: string;
	readonly points: readonly (readonly [size: number, value: number])[];
}

export function ratioOf(figure: Figure): number | undefined {
	return figure.ratio ?? (figure.base === undefined ? undefined : figure.measured / figure.base.value);
}

export function isMet(figure: Figure): boolean | undefined {
	const { limit } = figure;
	if (limit === undefined) return undefined;
	const judged = limit.of === "ratio" ? ratioOf(figure) : figure.measured;
	if (judged === undefined || Number.isNaN(judged)) return false;
	return judged <= (limit.atMost ?? Number.POSITIVE_INFINITY) && judged >= (limit.atLeast ?? Number.NEGATIVE_INFINITY);
}

function targetOf({ limit, base, unit }: Figure): string {
	if (limit === undefined) return "–";
	const sign = limit.atMost === undefined ? "≥" : "≤";
	const bound = limit.atMost ?? limit.atLeast ?? 0;
	return limit.of === "ratio" ? `${sign} ${bound} × ${base?.name ?? "floor"}` : `${sign} ${amount(bound, unit)}`;
}

/** Three digits that matter, thousands apart, with the unit. */
export function amount(value: number, unit: string): string {
	const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
	const text = Number(value.toFixed(digits)).toLocaleString("en-US", { maximumFractionDigits: digits });
	return unit === "/s" ? `${text}/s` : `${text} ${unit}`;
}

export const HEAD = ["figure", "target", "measured", "against", "ratio", "verdict"] as const;

export function renderFigures(figures: readonly Figure[]): string {
	return renderTable(HEAD, rowsOf(figures));
}

/** Beneath HEAD. */
export function rowsOf(figures: readonly Figure[]): readonly (readonly string[])[] {
	return figures.map((figure): readonly string[] => {
		const { base } = figure;
		const ratio = ratioOf(figure);
		const met = isMet(figure);
		return [
			figure.name + (figure.remark === undefined ? "" : ` (${figure.remark})`),
			targetOf(figure),
			amount(figure.measured, figure.unit),
			base === undefined ? "–" : `${base.name} ${amount(base.value, figure.unit)}`,
			ratio === undefined ? "–" : `${ratio.toFixed(2)} ×`,
			met === undefined ? "–" : met ? "met" : "missed",
		];
	});
}

/** First column to the left, the others to the right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
	const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)));
	const line = (cells: readonly string[]): string =>
		cells
			.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
			.join("  ")
			.trimEnd();
	return [line(head), line(widths.map((width) => "─".repeat(width))), ...rows.map(line)].join("\n");
}
