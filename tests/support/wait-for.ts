/** Waits for a condition instead of for a time: looks every few milliseconds, and says what it waited for. */
export async function waitFor<T>(
	what: string,
	look: () => T | undefined | false | Promise<T | undefined | false>,
	withinMs = 10_000,
): Promise<T> {
	const until = performance.now() + withinMs;
	for (;;) {
		const seen = await look();
		if (seen !== undefined && seen !== false) return seen;
		if (performance.now() > until) throw new Error(`waited ${withinMs} ms for: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}
