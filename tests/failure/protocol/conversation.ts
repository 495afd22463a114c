/**
 * A conversation with the daemon as the first release had it, byte for byte: what was sent, and what came back. Kept
 * under golden/ and never recorded anew; a later release that cannot hold it has broken its clients.
 *
 * `node tests/failure/protocol/record.ts FILE` records one.
 */

export interface Turn {
	readonly what: string;
	readonly command: number;
	/** The request's frame, hex. */
	readonly request: string;
	/** The answer's frame, hex. */
	readonly answer: string;
}

export interface Conversation {
	readonly version: string;
	readonly turns: readonly Turn[];
}

/** Values that differ from run to run, by the key that holds them: only their shape is held. */
const VOLATILE: Readonly<Record<string, RegExp>> = {
	function_id: /^fn_[0-9a-v]{18}$/,
	deployment_id: /^dep_[0-9a-v]{18}$/,
	invocation_id: /^inv_[0-9a-v]{21}$/,
	execution_id: /^inv_[0-9a-v]{21}$/,
	execution_time_ms: /^\d+$/,
	created_at: /^\d{13}$/,
	started_at: /^\d{13}$/,
	finished_at: /^\d{13}$/,
	// Texts are for people; clients branch on codes.
	error: /./,
	message: /./,
};
/** What an accepted invocation has come to by the time of the answer. */
const EARLY_STATES = new Set(["queued", "running", "succeeded"]);

/** Why a present answer is not what the recorded one promised, or undefined. Fields beside the recorded ones are allowed. */
export function broken(recorded: unknown, now: unknown, path = "answer"): string | undefined {
	if (Array.isArray(recorded)) {
		if (!Array.isArray(now)) return `${path} is no list`;
		// A later daemon may have more features; every other list is as long as it was.
		if (path.endsWith(".features"))
			return recorded.every((each) => now.includes(each)) ? undefined : `${path} lacks one`;
		if (recorded.length !== now.length) return `${path} has ${now.length} items instead of ${recorded.length}`;
		return first(recorded.map((each, index) => broken(each, now[index], `${path}[${index}]`)));
	}
	if (typeof recorded === "object" && recorded !== null) {
		if (typeof now !== "object" || now === null) return `${path} is no object`;
		const isHello = "features" in recorded;
		return first(
			Object.entries(recorded).map(([key, value]) => {
				if (isHello && key === "version") return undefined;
				if (!(key in now)) return `${path}.${key} is gone`;
				const own = (now as Record<string, unknown>)[key];
				const shape = VOLATILE[key];
				if (shape !== undefined && value !== null && typeof value !== "object") {
					return typeof own === typeof value && shape.test(String(own))
						? undefined
						: `${path}.${key} is ${String(own)}`;
				}
				if (key === "state" && EARLY_STATES.has(String(value)) && "replayed" in recorded) {
					return EARLY_STATES.has(String(own)) ? undefined : `${path}.state is ${String(own)}`;
				}
				return broken(value, own, `${path}.${key}`);
			}),
		);
	}
	return Object.is(recorded, now) ? undefined : `${path} is ${String(now)} instead of ${String(recorded)}`;
}

function first(problems: readonly (string | undefined)[]): string | undefined {
	return problems.find((problem) => problem !== undefined);
}

/** `u32 length · u64 id · u8 tag · u32 payload length · payload`, read off docs/protocol.md. */
export function openFrame(bytes: Buffer): { id: bigint; tag: number; payload: Buffer } {
	const payload = bytes.subarray(17, 17 + bytes.readUInt32LE(13));
	return { id: bytes.readBigUInt64LE(4), tag: bytes.readUInt8(12), payload };
}

export function makeFrame(id: bigint, tag: number, payload: Buffer): Buffer {
	const frame = Buffer.alloc(17 + payload.length);
	frame.writeUInt32LE(13 + payload.length, 0);
	frame.writeBigUInt64LE(id, 4);
	frame.writeUInt8(tag, 12);
	frame.writeUInt32LE(payload.length, 13);
	payload.copy(frame, 17);
	return frame;
}

/** A raw payload's JSON and body. */
export function openRaw(payload: Buffer): { json: unknown; body: Buffer } {
	const end = 4 + payload.readUInt32LE(0);
	return { json: JSON.parse(payload.subarray(4, end).toString()) as unknown, body: payload.subarray(end) };
}

const RAW_ANSWERS = new Set([0x22, 0x24, 0x25]);

/** What an answer says. */
export function meaning(command: number, answer: Buffer): unknown {
	const { tag, payload } = openFrame(answer);
	if (tag === 0 && RAW_ANSWERS.has(command)) {
		const { json, body } = openRaw(payload);
		return { tag, json, body: body.toString("base64") };
	}
	return { tag, json: JSON.parse(payload.toString()) as unknown };
}

/**
 * What differs from run to run in requests: ids that earlier answers gave, and the path of the bundle. Each recorded one
 * is exchanged for this run's; all other bytes are sent as they were.
 */
export class Exchange {
	readonly #own = new Map<string, string>();

	set(recorded: string, own: string): void {
		this.#own.set(recorded, own);
	}

	/** Ids of both answers, in their order. */
	learn(recorded: Buffer, now: Buffer): void {
		const own = idsIn(now);
		idsIn(recorded).forEach((id, index) => this.set(id, own[index] ?? id));
	}

	apply(request: Buffer): Buffer {
		const { id, tag, payload } = openFrame(request);
		let text = payload.toString("latin1");
		for (const [recorded, own] of this.#own) text = text.replaceAll(recorded, own);
		return makeFrame(id, tag, Buffer.from(text, "latin1"));
	}
}

function idsIn(bytes: Buffer): string[] {
	return bytes.toString("latin1").match(/(?:fn|dep|inv)_[0-9a-v]{18,21}/g) ?? [];
}
