/** Stands in for Bun and its runtime: speaks the channel's frames, and says what MODE tells it to. */
import { Socket } from "node:net";
import {
	CHANNEL_VERSION,
	FrameReader,
	FrameWriter,
	readHostMessage,
	type WorkerMessage,
} from "../../../src/protocol/index.ts";

const mode = process.env["MODE"] ?? "";
const socket = new Socket({ fd: 3 });
socket.on("close", () => process.exit(0));
socket.on("error", () => process.exit(0));

function say(...messages: WorkerMessage[]): void {
	const writer = new FrameWriter();
	for (const message of messages) writer.worker(message);
	for (const chunk of writer.take()) socket.write(chunk);
}

const ready = (protocol = CHANNEL_VERSION): WorkerMessage => ({ type: "ready", protocol, config: undefined });
const response = (call: number, text: string): WorkerMessage => ({
	type: "response",
	call,
	status: 200,
	headers: [],
	body: Buffer.from(text),
});

function start(): void {
	switch (mode) {
		case "never-ready":
			return;
		case "ready-twice":
			return say(ready(), ready());
		case "wrong-version":
			return say(ready(99));
		case "answers-first":
			return say(response(1, "nobody asked"));
		case "garbage-first":
			socket.write(Buffer.alloc(100, 0xff));
			return;
		case "exits-first":
			console.error("no reason to stay");
			process.exit(5);
		// falls through
		default:
			return say(ready());
	}
}

function answer(call: number): void {
	switch (mode) {
		case "unknown-call":
			return say(response(call + 1000, "for nobody"));
		case "answers-twice":
			return say(response(call, "first"), response(call, "second"));
		case "ended-unasked":
			return say({ type: "ended", call });
		case "ready-late":
			return say(ready());
		case "start-failed-late":
			return say({ type: "start_failed", message: "after all", stack: undefined });
		case "never-answers":
			return;
		default:
			return say(response(call, mode));
	}
}

const reader = new FrameReader((frame) => {
	const message = readHostMessage(frame);
	if (typeof message === "string") return message;
	if (message.type === "init") start();
	else if (message.type === "invoke") answer(message.call);
	else if (message.type === "ping") say({ type: "pong" });
	else if (message.type === "stop") process.exit(0);
	return undefined;
});
socket.on("data", (bytes: Buffer) => {
	if (reader.push(bytes) !== undefined) process.exit(70);
});
