/** The checker can fail: a good history passes, and each way of being wrong is found under its own invariant. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { tempFolder } from "../../support/temp-folder.ts";
import { check, report, type Invariant } from "./checker.ts";
import {
	loadHistory,
	saveHistory,
	type FailLine,
	type InvokeLine,
	type Line,
	type OkLine,
	type RanLine,
	type RowLine,
	type SawLine,
	type WorldLine,
} from "./history.ts";

const HEADER: Line = {
	kind: "header",
	title: "by hand",
	seed: 7,
	functions: {
		free: { delivery: "at-least-once", limit: 100, ends: ["succeeded"] },
		pair: { delivery: "at-least-once", limit: 2, ends: ["succeeded"] },
		single: { delivery: "at-least-once", limit: 1, ends: ["succeeded"] },
		once: { delivery: "at-most-once", limit: 100, ends: ["succeeded", "lost"] },
	},
};
const WORLD: WorldLine = { kind: "world", drainedMs: 10, freshMs: 5, leftovers: [], bootsMs: [300] };

let op = 0;

function invoke(element: string, more: Partial<InvokeLine> = {}): InvokeLine {
	op += 1;
	return {
		kind: "op",
		type: "invoke",
		process: 0,
		op,
		element,
		at: op,
		function: "free",
		via: "socket",
		key: `key-${element}`,
		laneKey: "",
		sum: 1,
		patternSum: 2,
		...more,
	};
}

function ok(element: string, id = `inv_${element}`): OkLine {
	return { kind: "op", type: "ok", process: 0, op, element, at: op, id, replayed: false };
}

function refused(element: string, type: "fail" | "info", code: string): FailLine {
	return { kind: "op", type, process: 0, op, element, at: op, code };
}

function ran(what: RanLine["what"], element: string, more: Partial<RanLine> = {}): RanLine {
	return { kind: "ran", what, id: `inv_${element}`, attempt: 1, pid: 1, born: 1, at: 1, ...more };
}

let order = 0;

function row(element: string, more: Partial<RowLine> = {}): RowLine {
	order += 1;
	return {
		kind: "row",
		order,
		id: `inv_${element}`,
		function: "free",
		element,
		key: `key-${element}`,
		laneKey: "",
		state: "succeeded",
		attempt: 1,
		charged: 0,
		maxAttempts: 3,
		finishedAt: 1,
		code: undefined,
		attempts: [{ attempt: 1, outcome: "succeeded" }],
		answer: { echo: element, sum: 1, patternSum: 2 },
		digest: 3,
		...more,
	};
}

function saw(element: string, more: Partial<SawLine> = {}): SawLine {
	return { kind: "saw", id: `inv_${element}`, state: "succeeded", digest: 3, at: 1, ...more };
}

/** Sent, acknowledged, ran, ended. */
function good(element: string, name = "free"): Line[] {
	return [
		invoke(element, { function: name }),
		ok(element),
		ran("start", element),
		ran("finish", element),
		row(element, { function: name }),
	];
}

function found(lines: readonly Line[], world: Partial<WorldLine> = {}): Invariant[] {
	const verdict = check([HEADER, ...lines, { ...WORLD, ...world }]);
	return [...new Set(verdict.findings.map(({ invariant }) => invariant))];
}

test("one that starts late because its first attempt died before anybody saw it is in no wrong order", () => {
	const attempts = ["daemon_died", "succeeded"].map((outcome, index) => ({ attempt: index + 1, outcome }));
	const [first, second] = [row("a", { function: "single", attempt: 2, attempts }), row("b", { function: "single" })];
	const sent = ["a", "b"].flatMap((name) => [invoke(name, { function: "single" }), ok(name)]);
	const starts = ["b", "a"].flatMap((name) => {
		const attempt = name === "a" ? 2 : 1;
		return [ran("start", name, { attempt }), ran("finish", name, { attempt })];
	});
	assert.deepEqual(check([HEADER, ...sent, ...starts, first, second, WORLD]).findings, []);
});

test("a history in which all went well has no findings, and neither has one with deaths in it", () => {
	const lines: Line[] = [
		...good("a"),
		saw("a"),
		// Unknown, sent again under its key, acknowledged: one invocation, which ran twice because a process died.
		invoke("b"),
		refused("b", "info", "DAEMON_UNREACHABLE"),
		invoke("b"),
		ok("b"),
		ran("start", "b", { pid: 9 }),
		ran("start", "b", { attempt: 2 }),
		ran("finish", "b", { attempt: 2 }),
		row("b", {
			attempt: 2,
			attempts: [
				{ attempt: 1, outcome: "daemon_died" },
				{ attempt: 2, outcome: "succeeded" },
			],
		}),
		// Unknown and there, unknown and not there, refused and not there.
		invoke("c"),
		refused("c", "info", "DAEMON_UNREACHABLE"),
		ran("start", "c"),
		ran("finish", "c"),
		row("c"),
		invoke("d"),
		refused("d", "info", "STORE_ERROR"),
		invoke("e"),
		refused("e", "fail", "LANE_FULL"),
		// Lost at most once, started once.
		invoke("f", { function: "once" }),
		ok("f"),
		ran("start", "f"),
		row("f", { function: "once", state: "lost", answer: undefined, digest: 0 }),
	];
	const verdict = check([HEADER, ...lines, WORLD]);
	assert.deepEqual(verdict.findings, []);
	assert.deepEqual(verdict.classes, { ok: 3, lost: 0, unexpected: 0, duplicated: 0, recovered: 1, absent: 2 });
	assert.deepEqual([verdict.starts, verdict.reruns], [5, 1]);
	assert.deepEqual(verdict.ends, { succeeded: 3, lost: 1 });
});

const WRONG: readonly (readonly [
	what: string,
	invariant: Invariant,
	lines: () => Line[],
	world?: Partial<WorldLine>,
])[] = [
	["an acknowledged invocation that is not there", "I1", () => [invoke("a"), ok("a")]],
	[
		"an acknowledged invocation that never ends",
		"I1",
		() => [invoke("a"), ok("a"), row("a", { state: "running", finishedAt: undefined, answer: undefined, digest: 0 })],
	],
	[
		"an acknowledgement with another element's id",
		"I1",
		() => [...good("a"), ...good("b"), invoke("b"), ok("b", "inv_a")],
	],
	["an invocation that nobody sent", "I2", () => [row("a"), ran("start", "a"), ran("finish", "a")]],
	["an attempt without any record", "I2", () => [ran("start", "a")]],
	[
		"an invocation of another function than it was sent to",
		"I2",
		() => [invoke("a", { function: "pair" }), ok("a"), ran("start", "a"), ran("finish", "a"), row("a")],
	],
	["a lane key that nobody sent", "I2", () => [...good("a").slice(0, -1), row("a", { laneKey: "x" })]],
	["two records for one id", "I3", () => [...good("a"), row("a")]],
	["an end that changed", "I3", () => [...good("a"), saw("a", { state: "failed", digest: 0 })]],
	["a result that changed", "I3", () => [...good("a"), saw("a", { digest: 4 })]],
	["an end that a client saw and that is gone", "I3", () => [saw("a")]],
	["a terminal record without its time", "I3", () => [...good("a").slice(0, -1), row("a", { finishedAt: undefined })]],
	[
		"an at-most-once invocation that started twice",
		"I4",
		() => [
			invoke("a", { function: "once" }),
			ok("a"),
			ran("start", "a"),
			ran("start", "a", { attempt: 2 }),
			ran("finish", "a", { attempt: 2 }),
			row("a", {
				function: "once",
				attempt: 2,
				attempts: [
					{ attempt: 1, outcome: "daemon_died" },
					{ attempt: 2, outcome: "succeeded" },
				],
			}),
		],
	],
	["one attempt that started twice", "I4", () => [...good("a"), ran("start", "a", { pid: 2 })]],
	["an attempt that ran and has no record", "I4", () => [...good("a"), ran("start", "a", { attempt: 2 })]],
	["more charged than allowed", "I4", () => [...good("a").slice(0, -1), row("a", { charged: 4 })]],
	[
		"a lane over its limit",
		"I5",
		() => [
			...["a", "b", "c"].flatMap((name) => [invoke(name, { function: "pair" }), ok(name), ran("start", name)]),
			...["a", "b", "c"].flatMap((name) => [ran("finish", name), row(name, { function: "pair" })]),
		],
	],
	[
		"a second attempt while the first still lives",
		"I5",
		() => [
			invoke("a"),
			ok("a"),
			ran("start", "a"),
			ran("start", "a", { attempt: 2, pid: 2 }),
			ran("finish", "a"),
			ran("finish", "a", { attempt: 2, pid: 2 }),
			row("a", {
				attempt: 2,
				attempts: [
					{ attempt: 1, outcome: "daemon_died" },
					{ attempt: 2, outcome: "succeeded" },
				],
			}),
		],
	],
	[
		"a start before one that was accepted earlier",
		"I6",
		() => {
			const [first, second] = [row("a", { function: "single" }), row("b", { function: "single" })];
			const sent = ["a", "b"].flatMap((name) => [invoke(name, { function: "single" }), ok(name)]);
			const starts = ["b", "a"].flatMap((name) => [ran("start", name), ran("finish", name)]);
			return [...sent, ...starts, first, second];
		},
	],
	[
		"another's answer",
		"I7",
		() => [...good("a").slice(0, -1), row("a", { answer: { echo: "b", sum: 1, patternSum: 2 } })],
	],
	[
		"a request body that arrived damaged",
		"I7",
		() => [...good("a").slice(0, -1), row("a", { answer: { echo: "a", sum: 9, patternSum: 2 } })],
	],
	[
		"a response body that was damaged",
		"I7",
		() => [...good("a").slice(0, -1), row("a", { answer: { echo: "a", sum: 1, patternSum: 9 } })],
	],
	["a success that never ran", "I7", () => [invoke("a"), ok("a"), row("a")]],
	["a success without an answer", "I7", () => [...good("a").slice(0, -1), row("a", { answer: undefined })]],
	[
		"an end that the faults do not explain",
		"I7",
		() => [
			invoke("a"),
			ok("a"),
			ran("start", "a"),
			row("a", { state: "failed", answer: undefined, code: "HANDLER_ERROR" }),
		],
	],
	["a process that is left", "I9", () => good("a"), { leftovers: ["worker process 1"] }],
	["work that does not end", "I11", () => good("a"), { drainedMs: undefined }],
	["work that ends too late", "I11", () => good("a"), { drainedMs: 61_000 }],
	["no new work", "I11", () => good("a"), { freshMs: undefined }],
	["new work that takes long", "I11", () => good("a"), { freshMs: 6_000 }],
	["an error that is not documented", "I12", () => [invoke("a"), refused("a", "fail", "OOPS")]],
	["an unknown outcome after a clear refusal", "I12", () => [invoke("a"), refused("a", "info", "LANE_FULL")]],
	[
		"a refusal of what was queued all the same",
		"I12",
		() => [invoke("a"), refused("a", "fail", "SHUTTING_DOWN"), ran("start", "a"), ran("finish", "a"), row("a")],
	],
	[
		"two invocations for one key",
		"I13",
		() => [...good("a"), row("a", { id: "inv_a2" }), ran("start", "a2"), ran("finish", "a2")],
	],
	["two acknowledgements with two ids", "I13", () => [...good("a"), invoke("a"), ok("a", "inv_a2")]],
	["another key than was sent", "I13", () => [...good("a").slice(0, -1), row("a", { key: "key-b" })]],
];

for (const [what, invariant, lines, world] of WRONG) {
	test(`the checker finds ${what}: ${invariant}`, () => {
		order = 0;
		const invariants = found(lines(), world);
		assert.ok(invariants.includes(invariant), `found ${invariants.join(", ") || "nothing"}`);
	});
}

test("an attempt that was killed counts against its lane only while its process is known to have lived", () => {
	const sent = ["a", "b"].flatMap((name) => [invoke(name, { function: "single" }), ok(name)]);
	const attempts = [
		{ attempt: 1, outcome: "daemon_died" },
		{ attempt: 2, outcome: "succeeded" },
	];
	order = 0;
	const rows = [row("a", { function: "single", attempt: 2, attempts }), row("b", { function: "single" })];
	const killed = ran("start", "a", { pid: 5 });
	const rest = [
		ran("start", "a", { attempt: 2 }),
		ran("finish", "a", { attempt: 2 }),
		ran("start", "b"),
		ran("finish", "b"),
	];
	assert.deepEqual(found([...sent, killed, ...rest, ...rows]), []);
	// The same with a sign of life of that process afterwards, from another invocation's attempt.
	const sign = [...good("c").slice(0, 2), ran("start", "c", { pid: 5 }), ran("finish", "c", { pid: 5 }), row("c")];
	assert.deepEqual(found([...sent, killed, ...rest, ...sign, ...rows]), ["I5"]);
});

test("a stored history is judged as it was, and the report names the seed, the findings and their lines", () => {
	using folder = tempFolder();
	const path = join(folder.path, "history.jsonl");
	const lines: Line[] = [HEADER, ...good("a"), invoke("b"), ok("b"), WORLD];
	saveHistory(path, lines);
	const loaded = loadHistory(path);
	const verdict = check(loaded);
	assert.deepEqual(verdict, check(lines));
	const text = report(loaded, verdict);
	assert.match(text, /SEED=7/);
	assert.match(text, /I1 {2}lost: b was acknowledged as inv_b/);
	assert.match(text, /"element":"b"/);
	assert.doesNotMatch(text, /"element":"a"/);
});
