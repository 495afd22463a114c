/** What the pool (Node) and the runtime (Bun) say to each other over a worker's channel; worker-frames.ts has the bytes. */

/** Both sides must say the same number; raise it with every change that an older side would misread. */
export const CHANNEL_VERSION = 2;

export type ChannelPairs = ReadonlyArray<readonly [name: string, value: string]>;
export type ChannelLogLevel = "debug" | "info" | "warn" | "error";
export type AbortReason = "timeout" | "cancelled";

/** Bounds that the runtime keeps; the pool takes them from its limits, because the protocol imports nothing. */
export interface RuntimeLimits {
	readonly bodyBytesMax: number;
	readonly headersBytesMax: number;
	readonly errorTextBytesMax: number;
	readonly logLineBytesMax: number;
	readonly logBytesPerAttemptMax: number;
	readonly configBytesMax: number;
}

export interface InitMessage {
	readonly type: "init";
	readonly protocol: number;
	readonly bundlePath: string;
	/** Export that handles requests. */
	readonly handler: string;
	readonly functionName: string;
	readonly version: string;
	readonly limits: RuntimeLimits;
}

export interface InvokeMessage {
	readonly type: "invoke";
	/** Unique within one worker's life. */
	readonly call: number;
	readonly invocationId: string;
	readonly attempt: number;
	readonly method: string;
	readonly path: string;
	readonly headers: ChannelPairs;
	readonly query: ChannelPairs;
	/** UTC ms of the abort signal. */
	readonly deadline: number;
	readonly body: Uint8Array;
}

/** What an `invoke` is written from: the JSON texts of `headers` and `query` go out as they are stored. */
export interface InvokeSource extends Pick<InvokeMessage, "invocationId" | "attempt" | "method" | "path" | "body"> {
	readonly headersJson: string;
	readonly queryJson: string;
}

export type HostMessage =
	| InitMessage
	| InvokeMessage
	| { readonly type: "abort"; readonly call: number; readonly reason: AbortReason }
	| { readonly type: "ping" }
	/** Other limits than at the start, from the next call on. */
	| { readonly type: "limits"; readonly limits: RuntimeLimits }
	/** Finish what `waitUntil` holds, then exit. Sent only when no call is aboard. */
	| { readonly type: "stop" };

export interface LogMessage {
	readonly type: "log";
	/** The call that printed it; undefined outside of any call. */
	readonly call: number | undefined;
	readonly level: ChannelLogLevel;
	readonly message: string;
	readonly metadata: Readonly<Record<string, unknown>> | undefined;
	readonly at: number;
}

export type WorkerMessage =
	| { readonly type: "ready"; readonly protocol: number; readonly config: unknown }
	| { readonly type: "start_failed"; readonly message: string; readonly stack: string | undefined }
	/** The handler answered before an abort reached it. */
	| {
			readonly type: "response";
			readonly call: number;
			readonly status: number;
			readonly headers: ChannelPairs;
			readonly body: Uint8Array;
	  }
	/** The handler failed before an abort reached it. */
	| {
			readonly type: "failed";
			readonly call: number;
			readonly code: string;
			readonly name: string | undefined;
			readonly message: string;
			readonly stack: string | undefined;
	  }
	/** The handler ended, somehow, after an abort reached it. */
	| { readonly type: "ended"; readonly call: number }
	| LogMessage
	/** An error that no handler caught: the worker should be replaced. */
	| { readonly type: "tainted"; readonly message: string }
	| { readonly type: "pong" };

/** A type's place is its number in a frame. */
export const HOST_TYPES = [
	"init",
	"invoke",
	"abort",
	"ping",
	"limits",
	"stop",
] as const satisfies readonly HostMessage["type"][];
export const WORKER_TYPES = [
	"ready",
	"start_failed",
	"response",
	"failed",
	"ended",
	"log",
	"tainted",
	"pong",
] as const satisfies readonly WorkerMessage["type"][];
/** Worker types start here, so that a message sent the wrong way is never taken for another. */
export const WORKER_TYPE_BASE = 64;
