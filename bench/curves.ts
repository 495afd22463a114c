/** How figures grow: small line charts in one SVG without scripts, each size ten times the one before. */
import { amount, type Curve, type Figure } from "./figures.ts";

const [COLUMNS, WIDTH, HEIGHT] = [3, 250, 150];
const PLOT = { left: 14, right: 14, top: 46, bottom: 30 };

const STYLE = `
	text { font: 11px system-ui, sans-serif; fill: #1f2328 }
	.title { font-weight: 600 }
	.note { fill: #59636e }
	.line { fill: none; stroke: #0969da; stroke-width: 2 }
	.dot { fill: #0969da }
	.axis { stroke: #d1d9e0 }
	.ground { fill: #ffffff }
	@media (prefers-color-scheme: dark) {
		text { fill: #f0f6fc }
		.note { fill: #9198a1 }
		.line { stroke: #4493f8 }
		.dot { fill: #4493f8 }
		.axis { stroke: #3d444d }
		.ground { fill: #0d1117 }
	}
`;

export function renderCurves(figures: readonly Figure[]): string {
	const curves = figures.flatMap(({ curve, unit }) => (curve === undefined ? [] : [{ curve, unit }]));
	const [width, height] = [COLUMNS * WIDTH, Math.ceil(curves.length / COLUMNS) * HEIGHT];
	return [
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="How figures grow with what there is to keep">`,
		`<style>${STYLE}</style>`,
		`<rect class="ground" width="${width}" height="${height}"/>`,
		...curves.map(({ curve, unit }, index) =>
			[
				`<g transform="translate(${(index % COLUMNS) * WIDTH} ${Math.floor(index / COLUMNS) * HEIGHT})">`,
				drawn(curve, unit),
				"</g>",
			].join(""),
		),
		"</svg>\n",
	].join("\n");
}

/** Sizes grow to the right by their logarithm; values upwards from zero. */
function drawn({ of, name, points }: Curve, unit: string): string {
	const floor = HEIGHT - PLOT.bottom;
	const most = Math.max(...points.map(([, value]) => value)) || 1;
	const [first = 1, last = 1] = [points[0]?.[0], points.at(-1)?.[0]];
	const at = ([size, value]: readonly [number, number]): readonly [x: number, y: number] => [
		PLOT.left + (Math.log(size / first) / Math.log(last / first)) * (WIDTH - PLOT.left - PLOT.right),
		floor - (value / most) * (floor - PLOT.top),
	];
	const places = points.map(at);
	const end = points.at(-1)?.[1] ?? Number.NaN;
	return [
		`<text class="title" x="${PLOT.left}" y="16">${name}: ${amount(end, unit)}</text>`,
		`<text class="note" x="${PLOT.left}" y="31">${of}</text>`,
		`<line class="axis" x1="${PLOT.left}" y1="${floor}" x2="${WIDTH - PLOT.right}" y2="${floor}"/>`,
		`<polyline class="line" points="${places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")}"/>`,
		...places.map(([x, y]) => `<circle class="dot" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="2.5"/>`),
		...[first, last].map(
			(size, index) =>
				`<text class="note" x="${index === 0 ? PLOT.left : WIDTH - PLOT.right}" y="${floor + 15}" text-anchor="${index === 0 ? "start" : "end"}">${size.toLocaleString("en-US")}</text>`,
		),
	].join("");
}

export const CURVE_HEAD = ["with more", "figure", "at each size"] as const;

/** A row for each curve, its sizes and values in the order of the sizes. */
export function curveRows(figures: readonly Figure[]): readonly (readonly string[])[] {
	return figures.flatMap(({ curve, unit }) =>
		curve === undefined
			? []
			: [
					[
						curve.of,
						curve.name,
						curve.points.map(([size, value]) => `${size.toLocaleString("en-US")}: ${amount(value, unit)}`).join(" · "),
					],
				],
	);
}
