/**
 * What happens at boot before the first claim: rows that were running when the last daemon died are settled by fact
 * (every worker of it is proven gone), and the counts of the lanes are rebuilt from rows.
 *
 * Idempotent: a crash in the middle leaves rows that the next boot treats alike.
 */
import type { Environment } from "../core/environment.ts";
import type { EngineError } from "../core/errors.ts";
import type { ResolvedConfig } from "../core/function-config.ts";
import { invocationId } from "../core/ids.ts";
import { blockOf } from "../store/index.ts";
import type { Batch } from "./batch.ts";
import type { Item } from "./group-commit.ts";
import type { Lanes } from "./lanes.ts";
import type { Settler } from "./settle.ts";
import type { RunningRowAtBoot, Statements } from "./statements.ts";
import type { Turns } from "./turns.ts";

export interface RecoverDeps {
	readonly environment: Environment;
	readonly statements: Statements;
	readonly lanes: Lanes;
	readonly settler: Settler;
	readonly turns: Turns;
	/** Adds the item and writes it now. */
	readonly write: (item: Item) => void;
	/** Why an item that was added is neither written nor refused. */
	readonly waiting: () => EngineError;
	readonly retryOf: (lane: number, version: number) => ResolvedConfig["retry"];
}

const PAGE = 500;

export interface Recovered {
	/** Rows that were running and went back to their lanes. */
	readonly requeued: number;
	/** Rows that were running and ended (`lost`, `cancelled`, `crashed`). */
	readonly ended: number;
}

/** Counts first, so that settling moves them; then the running rows, page by page. */
export function recover(deps: RecoverDeps): Recovered {
	const { environment, statements, lanes, turns } = deps;
	environment.probe.hit("recover.begin");
	for (const row of statements.laneCountReady.all()) {
		const lane = lanes.get(row.lane);
		lane.ready = row.count;
		lane.keyed += row.keyed;
	}
	for (const row of statements.laneCountDelayed.all()) {
		const lane = lanes.get(row.lane);
		lane.delayed = row.count;
		lane.keyed += row.keyed;
	}
	let requeued = 0;
	let ended = 0;
	for (let after = 0; ;) {
		const rows = statements.runningList.all(blockOf(after), after, PAGE);
		const last = rows.at(-1);
		if (last === undefined) break;
		after = last.seq;
		writeNow(deps, (batch) => {
			for (const row of rows) {
				const lane = lanes.get(row.lane);
				batch.touch(lane);
				lane.running += 1;
				if (settleAtBoot(deps, batch, row)) requeued += 1;
				else ended += 1;
			}
		});
	}
	if (turns.stuck.length > 0) writeNow(deps, (batch) => turns.mend(batch));
	environment.probe.hit("recover.done");
	return { requeued, ended };
}

/** Throws where it is neither written nor refused but waits, for space or for a lock: the next page would be the same one, for ever. */
function writeNow(deps: RecoverDeps, apply: (batch: Batch) => void): void {
	let written = false;
	let failure: Error | undefined;
	deps.write({
		settles: true,
		apply,
		committed: () => {
			written = true;
		},
		failed: (error) => {
			failure = error;
		},
	});
	if (!written) throw failure ?? deps.waiting();
}

function settleAtBoot(deps: RecoverDeps, batch: Batch, row: RunningRowAtBoot): boolean {
	const lane = deps.lanes.get(row.lane);
	const settled = deps.settler.settle(
		batch,
		{
			seq: row.seq,
			invocationId: invocationId(row.createdAt, row.seq),
			lane,
			laneKey: row.laneKey,
			attempt: row.attempt,
			charged: row.charged,
			maxAttempts: row.maxAttempts,
			atMostOnce: row.atMostOnce === 1,
			workerDeaths: row.workerDeaths,
			daemonDeaths: row.daemonDeaths,
			solo: row.solo === 1,
			cancelAsked: row.cancelAsked === 1,
			deadlineAt: row.deadlineAt,
			startedAt: row.startedAt,
			createdAt: row.createdAt,
			runAt: row.runAt,
			ticket: { worker: row.worker, cold: row.cold === 1 },
		},
		{ kind: "daemon_died" },
		deps.retryOf(row.lane, row.version),
	);
	return settled === "queued";
}
