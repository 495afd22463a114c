/** The protocol's door: bytes and messages that Node, Bun and clients share. Imports nothing of ours from outside. */
export * from "./client-frames.ts";
export * from "./commands.ts";
export * from "./worker-channel.ts";
export * from "./worker-variables.ts";
