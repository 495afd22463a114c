/**
 * What every adapter answers to, and the work that every handler does. The work is next to nothing, so that what is
 * measured is the queue; it changes what it is given, so that an answer that was never computed is noticed.
 */
import { setTimeout as delay } from "node:timers/promises";

export interface Payload {
	readonly n: number;
	readonly text: string;
}

export interface Answer {
	readonly n: number;
	readonly text: string;
}

/** A record that a drained backlog has left. */
export interface Recorded {
	readonly payload: Payload;
	readonly answer: unknown;
}

/** 64 bytes of text, as the project's own round trips have. */
const TEXT = "abcdefgh".repeat(8);

export function payloadOf(n: number): Payload {
	return { n, text: TEXT };
}

/** The handler of every product. */
export function answerTo({ n, text }: Payload): Answer {
	return { n: n * 2 + 1, text: text.toUpperCase() };
}

export function checkAnswer(payload: Payload, answer: unknown): void {
	const expected = answerTo(payload);
	const { n, text } = (answer ?? {}) as Partial<Answer>;
	if (n !== expected.n || text !== expected.text) {
		throw new Error(`${JSON.stringify(payload)} was answered with ${JSON.stringify(answer)}`);
	}
}

/** What an adapter is given. A worker process is given the same, without `startWorker`. */
export interface WorkerContext {
	/** Of this product alone, on the disk that is measured; removed afterwards. */
	readonly folder: string;
	readonly bunPath: string;
	/** The engine's main file. */
	readonly main: string;
	/** Which of the product's settings this is: `setting` in peers.ts. */
	readonly setting: string;
}

export interface AdapterContext extends WorkerContext {
	/** A process that runs this adapter's `work` when it is asked to. Ended by the adapter's `close`. */
	startWorker(): Promise<WorkerProcess>;
}

export interface WorkerProcess {
	/** Resolves when the handlers of `queue` take jobs. */
	work(queue: string): Promise<void>;
	end(): Promise<void>;
}

/** A product that runs. Everything but `submit` is called one at a time. */
export interface Running {
	/** Resolves with the answer as the submitter sees it. */
	submit(payload: Payload): Promise<unknown>;
	/** Queues `payloadOf(0)` to `payloadOf(count - 1)` durably, in batches, where no handler takes them yet. */
	fill(count: number): Promise<void>;
	/** Starts the handlers of what was filled; resolves when every result is recorded. */
	drain(): Promise<void>;
	/** Up to a hundred of the records that `drain` has left. */
	recorded(): Promise<readonly Recorded[]>;
	close(): Promise<void>;
}

export interface Adapter {
	start(context: AdapterContext): Promise<Running>;
	/** In a worker process. Absent where the product runs handlers itself. */
	work?(context: WorkerContext, queue: string): Promise<void>;
}

export const RECORDED_MAX = 100;
/** Longer than any answer takes; a submitter that waits longer has lost it. */
export const ANSWER_MS_MAX = 60_000;

export function* chunksOf(count: number, size: number): Generator<Payload[]> {
	for (let from = 0; from < count; from += size) {
		yield Array.from({ length: Math.min(size, count - from) }, (_, index) => payloadOf(from + index));
	}
}

/** A slow product on a slow disk takes this long for a backlog. */
const DRAIN_MS_MAX = 600_000;

/** Looks until the backlog is done; every look costs the product something, so not all the time. */
export async function drained(isDone: () => boolean | Promise<boolean>, everyMs = 10): Promise<void> {
	const giveUpAt = performance.now() + DRAIN_MS_MAX;
	while (!(await isDone())) {
		if (performance.now() > giveUpAt) throw new Error("the backlog was not done after ten minutes");
		await delay(everyMs);
	}
}
