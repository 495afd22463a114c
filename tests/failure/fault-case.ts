/** One row of the fault catalogue. */
export interface FaultCase {
	/** Group letter and number; the title of each of its tests begins with it. */
	readonly id: string;
	/** What breaks. */
	readonly what: string;
	/** How the tests break it. */
	readonly injection: string;
	/** What must hold then: invariants I1–I15 of FAULTS.md, or a sentence. */
	readonly holds: string;
	/** Bugs of ours that it found, each with its fix: "symptom (seed or commit)". */
	readonly bugs?: readonly string[];
	/** Parts of the case that no test covers, and why. */
	readonly notCovered?: readonly string[];
}
