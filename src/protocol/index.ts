/** The protocol's door: bytes and messages that Node, Bun and clients share. Imports nothing of ours from outside. */
export * from "./client-frames.ts";
export * from "./commands.ts";
export { CHANNEL_FRAME_BYTES_MAX, FrameReader, type Frame, type FrameHandler } from "./worker-frames.ts";
export {
	CHANNEL_VERSION,
	type AbortReason,
	type ChannelLogLevel,
	type ChannelPairs,
	type HostMessage,
	type InitMessage,
	type InvokeMessage,
	type InvokeSource,
	type LogMessage,
	type RuntimeLimits,
	type WorkerMessage,
} from "./worker-messages.ts";
export { readHostMessage, readWorkerMessage } from "./worker-reader.ts";
export * from "./worker-variables.ts";
export { FrameWriter } from "./worker-writer.ts";
