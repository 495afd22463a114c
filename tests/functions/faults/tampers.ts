/** Reaches for what is not its own: the descriptors of its process, and the frames that its runtime speaks. */
import { closeSync, writeSync } from "node:fs";

/** A frame as the channel has it. */
function frame(type: number, head: unknown, body = ""): Buffer {
	const text = Buffer.from(JSON.stringify(head));
	const bytes = Buffer.alloc(9);
	bytes.writeUInt32LE(5 + text.length + body.length, 0);
	bytes.writeUInt8(type, 4);
	bytes.writeUInt32LE(text.length, 5);
	return Buffer.concat([bytes, text, Buffer.from(body)]);
}

const RESPONSE = 66;
const never = (): Promise<never> => new Promise<never>(() => undefined);
const forged = (call: number): Buffer => frame(RESPONSE, { call, status: 200, headers: [] }, "forged");

const tricks: Record<string, (fd: number) => unknown> = {
	"/garbage"(fd) {
		writeSync(fd, Buffer.alloc(64, 0xff));
		return never();
	},
	"/text"(fd) {
		writeSync(fd, "this is no frame\n");
		return never();
	},
	/** Says that a megabyte follows: what follows is everybody's answers. */
	"/swallow"(fd) {
		writeSync(fd, Buffer.from([0, 0, 16, 0]));
		return never();
	},
	"/unknown-type"(fd) {
		writeSync(fd, frame(99, {}));
		return never();
	},
	"/host-message"(fd) {
		writeSync(fd, frame(1, { call: 1 }));
		return never();
	},
	"/unknown-call"(fd) {
		writeSync(fd, forged(4_000_000));
		return never();
	},
	"/ready-again"(fd) {
		writeSync(fd, frame(64, { protocol: 1 }));
		return never();
	},
	"/broken-json"(fd) {
		writeSync(fd, Buffer.concat([Buffer.from([7, 0, 0, 0, RESPONSE, 2, 0, 0, 0]), Buffer.from("{{")]));
		return never();
	},
	"/close"(fd) {
		closeSync(fd);
		return never();
	},
	/** Frames where the channel is not: they are lines of output. */
	"/frames-on-output"() {
		for (let call = 0; call < 50; call += 1) {
			writeSync(1, forged(call));
			writeSync(2, forged(call));
			process.stdout.write(forged(call));
			console.log(forged(call).toString("latin1"));
		}
		return new Response("printed");
	},
};

export default async function handler(req: Request): Promise<unknown> {
	const url = new URL(req.url);
	const trick = tricks[url.pathname];
	if (trick !== undefined) return trick(Number(url.searchParams.get("fd") ?? 3));
	await Bun.sleep(Number(url.searchParams.get("ms") ?? 0));
	return new Response(url.searchParams.get("name"));
}
