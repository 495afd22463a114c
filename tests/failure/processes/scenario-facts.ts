/** What tests/failure/processes/scenario.ts submits, and what its judge must know. */
import type { FunctionFacts } from "../harness/history.ts";

export interface ScenarioElement {
	readonly function: string;
	readonly element: string;
	readonly key: string;
	/** Attempts up to this number fail. */
	readonly fail?: number;
	readonly padding?: string;
}

export const PLANS: Readonly<Record<string, { overrides: object; facts: FunctionFacts }>> = {
	free: {
		overrides: { retry: { maxAttempts: 3, baseMs: 1, capMs: 1, jitter: false, retryOn: [] } },
		facts: { delivery: "at-least-once", limit: 100, ends: ["succeeded"] },
	},
	single: { overrides: {}, facts: { delivery: "at-least-once", limit: 1, ends: ["succeeded"] } },
	once: {
		overrides: { delivery: "at-most-once", retry: { maxAttempts: 1, baseMs: 1, capMs: 1, jitter: false, retryOn: [] } },
		facts: { delivery: "at-most-once", limit: 100, ends: ["succeeded", "lost"] },
	},
};

const of = (name: string, number: number, more: Partial<ScenarioElement> = {}): ScenarioElement => ({
	function: name,
	element: `${name}-${number}`,
	key: `key-${name}-${number}`,
	...more,
});

export const ELEMENTS: readonly ScenarioElement[] = [
	of("free", 1),
	of("single", 1),
	of("single", 2),
	of("free", 2, { padding: "p".repeat(20_000) }),
	of("once", 1),
	of("free", 3, { fail: 1 }),
	of("once", 2),
	of("single", 3),
];
