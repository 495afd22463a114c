/**
 * Ids. An invocation's id carries its creation time and its place in the queue, so it is looked up by rowid
 * (no second index) and tells its age after its row is pruned. All ids are base 32 (0-9, a-v), fixed width,
 * so they sort by time.
 */
import type { Clock, Random } from "./environment.ts";

const MS_CHARS = 10; // 50 bits: past the year 37000
const SEQ_CHARS = 11; // 55 bits: all safe integers
const INVOCATION = new RegExp(`^inv_([0-9a-v]{${MS_CHARS}})([0-9a-v]{${SEQ_CHARS}})$`);

function base32(value: number, chars: number): string {
	return value.toString(32).padStart(chars, "0");
}

/** Invocations of one commit share their time, and its digits are half the cost of an id. */
let lastCreatedAt = -1;
let lastPrefix = "";

export function invocationId(createdAt: number, seq: number): string {
	if (createdAt !== lastCreatedAt) {
		lastCreatedAt = createdAt;
		lastPrefix = `inv_${base32(createdAt, MS_CHARS)}`;
	}
	return lastPrefix + base32(seq, SEQ_CHARS);
}

/** The parts of an invocation id, or undefined where the text is no such id. */
export function parseInvocationId(id: string): { createdAt: number; seq: number } | undefined {
	const match = INVOCATION.exec(id);
	if (match === null) return undefined;
	const createdAt = parseInt(match[1] ?? "", 32);
	const seq = parseInt(match[2] ?? "", 32);
	return Number.isSafeInteger(seq) ? { createdAt, seq } : undefined;
}

/** Of an id that is known to be one. */
export function seqOf(invocationId: string): number {
	return parseInt(invocationId.slice(-SEQ_CHARS), 32);
}

/** Ids of everything that is not an invocation: a kind, the time, and 40 random bits. */
export function newId(kind: "fn" | "dep" | "sch" | "evt" | "ins", clock: Clock, random: Random): string {
	return `${kind}_${base32(clock.now(), MS_CHARS)}${base32(Math.floor(random.next() * 2 ** 40), 8)}`;
}
