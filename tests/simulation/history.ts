/** What happened, in order: its last lines for people, its digest to tell whether two runs were the same run. */
import { createHash } from "node:crypto";

const KEPT = 400;

export class History {
	readonly #hash = createHash("sha256");
	readonly #lines: string[] = [];
	readonly #clock: { readonly monotonic: number; readonly wall: number };
	steps = 0;

	constructor(clock: { readonly monotonic: number; readonly wall: number }) {
		this.#clock = clock;
	}

	add(what: string): void {
		const line = `${this.#clock.monotonic} ${what}\n`;
		this.#hash.update(line);
		this.#lines.push(`${(this.#clock.monotonic / 3_600_000).toFixed(6)} h  ${what}`);
		if (this.#lines.length > 2 * KEPT) this.#lines.splice(0, KEPT);
	}

	last(count: number): string[] {
		return this.#lines.slice(-count);
	}

	/** Ends it. */
	digest(): string {
		return this.#hash.digest("hex");
	}
}
