/**
 * Counters and histograms of this run of the daemon, as Prometheus text. What must outlive the daemon is in rows
 * (queue.db's metric table), not here. Labels come from closed sets only: function names, states, sources, outcomes.
 */
import type { Stats } from "../core/contracts.ts";
import type { State } from "../core/invocation.ts";
import type { EndedInvocation } from "../queue/index.ts";

/** Seconds; from a warm echo to the longest usual timeout. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300] as const;

class Histogram {
	readonly #counts = [...BUCKETS, Infinity].map(() => 0);
	#sum = 0;
	#count = 0;

	observe(seconds: number): void {
		let bucket = 0;
		while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] ?? 0)) bucket += 1;
		this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
		this.#sum += seconds;
		this.#count += 1;
	}

	lines(name: string, labels: string): string[] {
		let below = 0;
		const lines = BUCKETS.map((bound, index) => {
			below += this.#counts[index] ?? 0;
			return `${name}_bucket{${labels},le="${bound}"} ${below}`;
		});
		return [
			...lines,
			`${name}_bucket{${labels},le="+Inf"} ${this.#count}`,
			`${name}_sum{${labels}} ${this.#sum}`,
			`${name}_count{${labels}} ${this.#count}`,
		];
	}
}

interface FunctionTotals {
	readonly ended: Partial<Record<State, number>>;
	coldStarts: number;
	readonly run: Histogram;
	readonly wait: Histogram;
}

/** What a scrape shows that is not counted here but looked at. */
export interface Gauges {
	readonly stats: Stats;
	readonly lanes: readonly { functionName: string; running: number; ready: number; delayed: number; limit: number }[];
	readonly databaseBytes: number;
}

export class Telemetry {
	readonly #functions = new Map<string, FunctionTotals>();
	readonly ended: Partial<Record<State, number>> = {};

	endedInvocation(functionName: string, end: EndedInvocation): void {
		this.ended[end.state] = (this.ended[end.state] ?? 0) + 1;
		let totals = this.#functions.get(functionName);
		if (totals === undefined) {
			totals = { ended: {}, coldStarts: 0, run: new Histogram(), wait: new Histogram() };
			this.#functions.set(functionName, totals);
		}
		totals.ended[end.state] = (totals.ended[end.state] ?? 0) + 1;
		if (end.cold) totals.coldStarts += 1;
		if (end.queueWaitMs === undefined) return;
		totals.run.observe(end.executionMs / 1000);
		totals.wait.observe(end.queueWaitMs / 1000);
	}

	render(gauges: Gauges): string {
		const { stats, lanes } = gauges;
		const out: string[] = [];
		const metric = (name: string, type: string, help: string, samples: readonly string[]): void => {
			out.push(
				`# HELP bunbase_${name} ${help}`,
				`# TYPE bunbase_${name} ${type}`,
				...samples.map((sample) => `bunbase_${sample}`),
			);
		};
		const one = (name: string, type: "counter" | "gauge", help: string, value: number): void =>
			metric(name, type, help, [`${name} ${value}`]);

		metric("build_info", "gauge", "The running version.", [`build_info{version="${stats.version}"} 1`]);
		one("start_time_seconds", "gauge", "When the daemon started, Unix time.", stats.startedAt / 1000);
		one("accepted_total", "counter", "Invocations accepted since the start.", stats.accepted);
		one("commits_total", "counter", "Transactions committed to the queue since the start.", stats.commits);
		one(
			"log_lines_dropped_total",
			"counter",
			"Log lines dropped because the writer was behind.",
			stats.logLinesDropped,
		);
		one("waiters", "gauge", "Callers that wait for an invocation to end.", stats.waiters);
		one("draining", "gauge", "1 while the daemon is stopping.", stats.draining ? 1 : 0);
		one("database_bytes", "gauge", "Size of queue.db and its WAL.", gauges.databaseBytes);
		one("wal_bytes", "gauge", "The larger write-ahead log of queue.db and metadata.db.", stats.walBytes);
		one("storage_low", "gauge", "1 while the disk has too little space for new work.", stats.storageLow ? 1 : 0);
		one("resident_memory_bytes", "gauge", "Resident memory of the daemon.", stats.rssBytes);
		metric(
			"workers",
			"gauge",
			"Worker processes by state.",
			Object.entries(stats.workers).map(([state, count]) => `workers{state="${state}"} ${count}`),
		);
		metric(
			"lane_invocations",
			"gauge",
			"Invocations of a lane that have not ended, by state.",
			lanes.flatMap(({ functionName, running, ready, delayed }) => [
				`lane_invocations{function="${functionName}",state="running"} ${running}`,
				`lane_invocations{function="${functionName}",state="ready"} ${ready}`,
				`lane_invocations{function="${functionName}",state="delayed"} ${delayed}`,
			]),
		);
		metric(
			"lane_limit",
			"gauge",
			"Most attempts of a lane at once.",
			lanes.map((lane) => `lane_limit{function="${lane.functionName}"} ${lane.limit}`),
		);

		const functions = [...this.#functions];
		metric(
			"invocations_total",
			"counter",
			"Invocations that ended since the start, by terminal state.",
			functions.flatMap(([name, totals]) =>
				Object.entries(totals.ended).map(
					([state, count]) => `invocations_total{function="${name}",state="${state}"} ${count}`,
				),
			),
		);
		metric(
			"cold_starts_total",
			"counter",
			"Invocations that were the first of their worker.",
			functions.map(([name, totals]) => `cold_starts_total{function="${name}"} ${totals.coldStarts}`),
		);
		metric(
			"invocation_duration_seconds",
			"histogram",
			"Run time of the last attempt.",
			functions.flatMap(([name, totals]) => totals.run.lines("invocation_duration_seconds", `function="${name}"`)),
		);
		metric(
			"queue_wait_seconds",
			"histogram",
			"From acceptance, or due time, to the start of the last attempt.",
			functions.flatMap(([name, totals]) => totals.wait.lines("queue_wait_seconds", `function="${name}"`)),
		);
		return `${out.join("\n")}\n`;
	}
}
