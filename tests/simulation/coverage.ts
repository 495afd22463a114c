/** How often each fault was injected and each move of the transition table was seen. A run that never did one says so. */
import { TRANSITIONS, type State } from "../../src/core/invocation.ts";

export const FAULTS = [
	"crash:anywhere",
	"crash:commit.begin",
	"crash:commit.before",
	"crash:commit.after",
	"crash:commit.done",
	"crash:commit.acknowledged",
	"crash:settle.committed",
	"crash:attempt.dispatched",
	"crash:attempt.answered",
	"crash:recover.begin",
	"crash:recover.done",
	"crash:told-in-part",
	"crash:loop",
	"restart:clean",
	"worker:killed",
	"worker:killed-at-cancel",
	"worker:crashed-alone",
	"worker:crashed-shared",
	"worker:died-starting",
	"worker:start-failed",
	"worker:start-hung",
	"worker:gone-late",
	"worker:hung",
	"worker:spins",
	"worker:exit-after-answer",
	"worker:answers-late",
	"worker:answers-twice",
	"worker:garbage",
	"worker:memory",
	"worker:outlived-daemon",
	"answer:stale",
	"clock:forward",
	"clock:back",
	"stall",
	"disk:full",
	"disk:ioerr-before",
	"disk:ioerr-after",
	"disk:sync-fails",
	"disk:busy",
	"disk:bad-item",
	"disk:checkpoint",
	"loop:late",
	"lane:paused",
	"lane:limit",
	"schedule:changed",
	"client:vanished",
	"client:unknown-retried",
] as const;
export type Fault = (typeof FAULTS)[number];

/** Told by the engine's one decision of what becomes of a running row: plants.ts adds the call as it loads the file. */
type Settlement = (event: string, to: State) => void;
const HOOK = "simulatedSettlement";
export const COUNTING = {
	file: "core/invocation.ts",
	find: "of ${row.maxAttempts} attempts`);\n\treturn decided;",
	replace: `of \${row.maxAttempts} attempts\`);\n\tglobalThis["${HOOK}"]?.(outcome.kind, decided.to);\n\treturn decided;`,
};

export function countSettlements(count: Settlement | undefined): void {
	(globalThis as Record<string, unknown>)[HOOK] = count;
}

export class Coverage {
	readonly faults = new Map<string, number>();
	readonly moves = new Map<string, number>();

	fault(name: Fault): void {
		add(this.faults, name, 1);
	}

	/** As a row was committed; what moved it from running is told by `settlement`. */
	move(from: State | "new", to: State): void {
		if (from !== "running") add(this.moves, `${from} → ${to}`, 1);
	}

	settlement(event: string, to: State): void {
		add(this.moves, `running, ${event} → ${to}`, 1);
	}

	add(other: Coverage): void {
		for (const [name, count] of other.faults) add(this.faults, name, count);
		for (const [name, count] of other.moves) add(this.moves, name, count);
	}

	/** Faults that were never injected, and moves of the table that were never seen. */
	missing(): string[] {
		const moves = ["new → queued", "new → running"];
		for (const to of Object.values(TRANSITIONS.queued).flat()) moves.push(`queued → ${to}`);
		for (const [event, ends] of Object.entries(TRANSITIONS.running)) {
			for (const to of ends) moves.push(`running, ${event} → ${to}`);
		}
		return [...FAULTS.filter((fault) => !this.faults.has(fault)), ...moves.filter((move) => !this.moves.has(move))];
	}
}

function add(counts: Map<string, number>, name: string, count: number): void {
	counts.set(name, (counts.get(name) ?? 0) + count);
}
