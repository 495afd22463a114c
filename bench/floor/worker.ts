/**
 * The floor's worker: says hello with a frame of id 0, then sends every frame back as it came. Bun only.
 * `node:net` cannot open descriptor 3 in Bun; `Bun.connect({ fd })` can.
 */
interface FloorSocket {
	/** Returns how many bytes were taken. */
	write(bytes: Uint8Array): number;
}

declare const Bun: {
	connect(options: {
		fd: number;
		socket: {
			data(socket: FloorSocket, chunk: Uint8Array): void;
			drain(socket: FloorSocket): void;
			close(): void;
		};
	}): Promise<FloorSocket>;
};

let unsent: Uint8Array[] = [];
let held = Buffer.alloc(0);

function send(socket: FloorSocket, bytes: Uint8Array): void {
	if (unsent.length > 0) {
		unsent.push(bytes);
		return;
	}
	const taken = socket.write(bytes);
	if (taken < bytes.length) unsent.push(bytes.slice(Math.max(0, taken)));
}

/** Whole frames go back; the beginning of one waits for its end, as a worker that parses would make it wait. */
function echo(socket: FloorSocket, chunk: Uint8Array): void {
	const bytes = held.length === 0 ? Buffer.from(chunk) : Buffer.concat([held, chunk]);
	let whole = 0;
	while (bytes.length - whole >= 4) {
		const end = whole + 4 + bytes.readUInt32LE(whole);
		if (end > bytes.length) break;
		whole = end;
	}
	held = bytes.subarray(whole);
	if (whole > 0) send(socket, bytes.subarray(0, whole));
}

const socket = await Bun.connect({
	fd: 3,
	socket: {
		data: echo,
		drain(socket) {
			const waiting = unsent;
			unsent = [];
			for (const bytes of waiting) send(socket, bytes);
		},
		close: () => process.exit(0),
	},
});
send(socket, new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0]));
