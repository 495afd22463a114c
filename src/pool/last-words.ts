/** The last lines that a worker printed as errors, for the sentence about its death. */
const LINES_MAX = 10;
const CHARS_MAX = 2_000;

export class LastWords {
	readonly #lines: string[] = [];

	add(line: string): void {
		this.#lines.push(line.slice(0, CHARS_MAX));
		if (this.#lines.length > LINES_MAX) this.#lines.shift();
	}

	get text(): string {
		return this.#lines.join("\n").slice(-CHARS_MAX);
	}
}
