/**
 * A number that commits of a database raise, kept in the database itself: each of metadata.db by one; of queue.db each that
 * accepts nothing, and ends raise it together (queue/tally.ts).
 *
 * SQLite cannot tell that its newest commits are gone: a WAL that was cut or deleted, or an older copy put back, opens
 * as a whole database (measured: 700 rows became 601 or 500, and quick_check said ok). With this number, the ends that are not in
 * it and the highest seq, one of which every commit raises, kept outside (high-water.ts), any lost commit shows: an accept, a claim or an end.
 */
import type { Database, Statement } from "./database.ts";

export class CommitCount {
	readonly #update: Statement;
	#committed: number;

	constructor(database: Database) {
		this.#update = database.prepare("UPDATE meta SET value = ? WHERE key = 'commits'");
		this.#committed = readCommitCount(database);
	}

	/** Part of an open transaction. */
	write(raise = 1): void {
		// As text: a bound number is a REAL, and would be stored as "7.0".
		this.#update.run(String(this.#committed + raise));
	}

	/** The transaction that `write` was part of is committed. */
	committed(raise = 1): void {
		this.#committed += raise;
	}

	/** Of what is committed. */
	get value(): number {
		return this.#committed;
	}
}

export function readCommitCount(database: Database): number {
	const value = database.prepare<[], string>("SELECT value FROM meta WHERE key = 'commits'").pluck().get();
	return value === undefined ? 0 : Number(value);
}

/** Never lowers it. */
export function raiseCommitCount(database: Database, commits: number): void {
	database
		.prepare("UPDATE meta SET value = ? WHERE key = 'commits' AND CAST(value AS INTEGER) < ?")
		.run(String(commits), commits);
}
