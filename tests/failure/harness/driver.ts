/**
 * Clients that want things done and write down what they were told. Each submits one element after another, over the
 * real socket client or over HTTP, waits out a daemon that is dead, and sends again, under the same idempotency key,
 * what was refused for now or whose outcome is unknown. Some give up on an unknown outcome, some have no key, some send
 * again what was acknowledged: so all classes of the checker can occur.
 */
import { Agent, request as httpRequest } from "node:http";
import { crc32 } from "node:zlib";
import type { State } from "../../../src/core/invocation.ts";
import { ClientError, createClient, type Client } from "../../../src/sources/client.ts";
import { patternOf } from "../../support/ledger.ts";
import { seededRandom } from "../../support/seed.ts";
import type { History } from "./history.ts";
import { pick, type FunctionPlan, type Random } from "./plans.ts";

export interface DriverOptions {
	readonly seed: number;
	readonly history: History;
	readonly plans: readonly FunctionPlan[];
	readonly socketPath: string;
	/** Undefined while no daemon runs. */
	readonly httpUrl: () => string | undefined;
	/** Default 8; every fourth speaks HTTP. */
	readonly clients?: number;
	/** Elements of one client, times the three that it has under way; default without end. */
	readonly elements?: number;
}

export interface Driver {
	/** No new elements; resolves when each that was begun is acknowledged or given up. */
	stop(): Promise<void>;
	/** As `stop`, but nothing is sent again: there will be no daemon any more. */
	abandon(): void;
	/** Resolves when all elements were submitted. */
	readonly done: Promise<void>;
	/** Elements that were acknowledged. */
	readonly acknowledged: number;
}

interface Submission {
	readonly function: string;
	readonly element: string;
	readonly key: string | undefined;
	readonly laneKey: string;
	readonly body: string;
	readonly patternSum: number;
	/** Waits for the end instead of for the acknowledgement. */
	readonly waits: boolean;
	/** Asked for where it waits, because the one attempt of a caller that waits would end most victims of a fault. */
	readonly maxAttempts: number | undefined;
}

type Told =
	| {
			readonly type: "ok";
			readonly id: string;
			readonly replayed: boolean;
			readonly end?: { state: State; digest: number };
	  }
	| { readonly type: "fail" | "info"; readonly code: string };

type Send = (submission: Submission) => Promise<Told>;

/** While no daemon answers. */
const RETRY_MS = 20;
/** Refusals and unknown outcomes after which the same is sent again. */
const PASSING: ReadonlySet<string> = new Set([
	"DAEMON_UNREACHABLE",
	"SHUTTING_DOWN",
	"LANE_FULL",
	"STORAGE_FULL",
	"STORE_BUSY",
	"STORE_ERROR",
	"INTERNAL",
]);
/** Elements that a client has under way, on its one connection. */
const AT_ONCE = 3;

export function drive(options: DriverOptions): Driver {
	const { history, plans, clients: count = 8, elements = Infinity } = options;
	const stopping = new AbortController();
	const abandoned = new AbortController();
	let acknowledged = 0;

	async function submit(process: number, submission: Submission, via: "socket" | "http", send: Send): Promise<Told> {
		const op = history.nextOp();
		const { element, key, laneKey, body, patternSum } = submission;
		history.op({
			process,
			op,
			element,
			type: "invoke",
			function: submission.function,
			via,
			key,
			laneKey,
			sum: crc32(body),
			patternSum,
		});
		const told = await send(submission);
		if (told.type === "ok") {
			history.op({ process, op, element, type: "ok", id: told.id, replayed: told.replayed });
			if (told.end !== undefined) history.saw({ id: told.id, ...told.end });
		} else history.op({ process, op, element, type: told.type, code: told.code });
		return told;
	}

	async function client(process: number): Promise<void> {
		const via = process % 4 === 3 ? "http" : "socket";
		using connection = via === "socket" ? socketSend(options.socketPath) : httpSend(options.httpUrl);
		await Promise.all(Array.from({ length: AT_ONCE }, (_, hand) => submitAll(process, hand, via, connection)));
	}

	async function submitAll(
		process: number,
		hand: number,
		via: "socket" | "http",
		connection: Connection,
	): Promise<void> {
		const random = seededRandom(options.seed * 31 + process * AT_ONCE + hand);
		for (let number = 0; number < elements && !stopping.signal.aborted; number += 1) {
			const submission = submissionOf(random, pick(random, plans), `e${process}.${hand}-${number}`);
			const givesUp = random.next() < 0.05;
			const repeats = submission.key !== undefined && random.next() < 0.1;
			for (;;) {
				const told = await submit(process, submission, via, connection.send);
				if (told.type === "ok") {
					acknowledged += 1;
					break;
				}
				if (told.type === "info" && (submission.key === undefined || givesUp)) break;
				// Refused without a key may be sent again: nothing was queued. The checker wants a key for that, so it is not.
				if (submission.key === undefined) break;
				// Nothing that is sent is wrong, so a refusal for good is a defect; sent again it would be one for ever.
				if (!PASSING.has(told.code)) throw new Error(`${submission.element} was answered with ${told.code}`);
				if (abandoned.signal.aborted) return;
				await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
			}
			if (repeats) await submit(process, submission, via, connection.send);
		}
	}

	const done = Promise.all(Array.from({ length: count }, (_, process) => client(process))).then(() => undefined);
	done.catch(() => undefined);
	return {
		done,
		stop() {
			stopping.abort();
			return done;
		},
		abandon() {
			stopping.abort();
			abandoned.abort();
		},
		get acknowledged() {
			return acknowledged;
		},
	};
}

function submissionOf(random: Random, plan: FunctionPlan, element: string): Submission {
	const payload = plan.payload(random);
	const waits = random.next() < 0.2;
	return {
		function: plan.name,
		element,
		key: random.next() < 0.1 ? undefined : `key-${element}`,
		laneKey: plan.laneKey?.(random) ?? "",
		body: JSON.stringify({ echo: element, ...payload }),
		patternSum: crc32(patternOf(element, payload.bytes ?? 0)),
		waits,
		maxAttempts: waits && plan.facts.delivery === "at-least-once" ? 5 : undefined,
	};
}

interface Connection extends Disposable {
	readonly send: Send;
}

function socketSend(path: string): Connection {
	const client: Client = createClient(path, { automaticKeys: false, connectTimeoutMs: 50 });
	return {
		async send({ function: name, key: idempotencyKey, laneKey, body, element, waits, maxAttempts }) {
			const request = { body, idempotencyKey, laneKey, tags: [element], maxAttempts };
			try {
				if (!waits) {
					const { invocationId: id, replayed } = await client.enqueue(name, request);
					return { type: "ok", id, replayed };
				}
				const { invocationId: id, state, body: answer } = await client.invoke(name, request);
				return { type: "ok", id, replayed: false, end: { state, digest: answer.byteLength === 0 ? 0 : crc32(answer) } };
			} catch (error) {
				return toldBy(error);
			}
		},
		[Symbol.dispose]: () => client.close(),
	};
}

function toldBy(error: unknown): Told {
	if (!(error instanceof ClientError)) throw error;
	// The wait was refused, not the work: it has an id.
	if (error.invocationId !== undefined) return { type: "ok", id: error.invocationId, replayed: false };
	const unknown = error.outcomeUnknown || error.code === "STORE_ERROR" || error.code === "INTERNAL";
	return { type: unknown ? "info" : "fail", code: error.code };
}

function httpSend(url: () => string | undefined): Connection {
	const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
	return {
		send({ function: name, key, laneKey, body, element, waits, maxAttempts }) {
			const base = url();
			if (base === undefined) return Promise.resolve({ type: "fail", code: "DAEMON_UNREACHABLE" });
			const headers: Record<string, string> = {
				"content-type": "application/json",
				"content-length": String(Buffer.byteLength(body)),
				"x-bunbase-tags": element,
			};
			if (maxAttempts !== undefined) headers["x-bunbase-max-attempts"] = String(maxAttempts);
			if (key !== undefined) headers["idempotency-key"] = key;
			if (laneKey !== "") headers["x-bunbase-lane-key"] = laneKey;
			if (!waits) headers["prefer"] = "respond-async";
			return new Promise((resolve) => {
				const req = httpRequest(`${base}/functions/${name}`, { method: "POST", agent, headers }, (res) => {
					const chunks: Buffer[] = [];
					const broken = (): void => resolve({ type: "info", code: "DAEMON_UNREACHABLE" });
					res.on("data", (chunk: Buffer) => chunks.push(chunk));
					res.on("error", broken);
					res.on("close", broken);
					res.on("end", () => resolve(answered(res.statusCode ?? 0, res.headers, Buffer.concat(chunks))));
				});
				req.on("error", (error: NodeJS.ErrnoException) =>
					resolve({ type: error.code === "ECONNREFUSED" ? "fail" : "info", code: "DAEMON_UNREACHABLE" }),
				);
				req.end(body);
			});
		},
		[Symbol.dispose]: () => agent.destroy(),
	};
}

function answered(status: number, headers: Readonly<Record<string, unknown>>, body: Buffer): Told {
	const id = headers["x-invocation-id"];
	const isProblem = String(headers["content-type"]).startsWith("application/problem+json");
	if (typeof id === "string") {
		const replayed = headers["idempotent-replayed"] === "true";
		if (status !== 200 || isProblem) return { type: "ok", id, replayed };
		return { type: "ok", id, replayed, end: { state: "succeeded", digest: body.byteLength === 0 ? 0 : crc32(body) } };
	}
	const code = isProblem ? String((JSON.parse(body.toString()) as { code?: unknown }).code) : `HTTP ${status}`;
	return { type: code === "STORE_ERROR" || code === "INTERNAL" ? "info" : "fail", code };
}
