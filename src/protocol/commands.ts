/** Commands and statuses of the client socket; docs/protocol.md is their public description. */

/** 0x01–0x05 are what BunBase's API server speaks. 0xF0–0xFF are never assigned. */
export const COMMANDS = {
	INVOKE: 0x01,
	GET_LOGS: 0x02,
	GET_METRICS: 0x03,
	REGISTER_FUNCTION: 0x04,
	DEPLOY_FUNCTION: 0x05,

	ENQUEUE: 0x10,
	GET_INVOCATION: 0x11,
	AWAIT_INVOCATION: 0x12,
	CANCEL_INVOCATION: 0x13,

	HELLO: 0x20,
	/** An operation of the administration table by name. */
	CALL: 0x21,
	/** As INVOKE, ENQUEUE, GET_INVOCATION, AWAIT_INVOCATION, with bodies as raw bytes; after HELLO only. */
	INVOKE_RAW: 0x22,
	ENQUEUE_RAW: 0x23,
	GET_RAW: 0x24,
	AWAIT_RAW: 0x25,
} as const;

export type CommandName = keyof typeof COMMANDS;

/** `0x12 AWAIT_INVOCATION`, for messages. */
export function commandName(code: number): string {
	const hex = `0x${code.toString(16).padStart(2, "0")}`;
	for (const [name, value] of Object.entries(COMMANDS)) if (value === code) return `${hex} ${name}`;
	return hex;
}

export const STATUS = { OK: 0x00, ERROR: 0x01 } as const;

/** What HELLO negotiates. It rises when a frame that exists changes its meaning; new commands do not raise it. */
export const PROTOCOL_VERSION = 1;

/** Names that HELLO's answer lists, so that a client can ask instead of guessing from a version. */
export const FEATURES = ["raw_bodies", "pairs", "call"] as const;
