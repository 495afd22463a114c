/**
 * The fault catalogue: everything we break on purpose, by group, each case with what must hold then. FAULTS.md is
 * written from it and from the results of `npm run test:faults -- --write`; a test holds that no case is without tests
 * and no row without a case.
 */
import type { FaultCase } from "./fault-case.ts";
import { HTTP } from "./http/cases.ts";
import { OPERATIONS } from "./operations/cases.ts";
import { PROCESSES } from "./processes/cases.ts";
import { PROTOCOL } from "./protocol/cases.ts";
import { STORAGE } from "./storage/cases.ts";
import { TIME } from "./time/cases.ts";
import { WORKERS } from "./workers/cases.ts";

export const GROUPS: Readonly<Record<string, { readonly title: string; readonly cases: readonly FaultCase[] }>> = {
	processes: { title: "A. Death of processes", cases: PROCESSES },
	storage: { title: "B. Storage", cases: STORAGE },
	workers: { title: "C. Workers and functions", cases: WORKERS },
	time: { title: "D. Time", cases: TIME },
	protocol: { title: "E. Socket protocol", cases: PROTOCOL },
	http: { title: "F. HTTP, pages, security", cases: HTTP },
	operations: { title: "G. Resources and operations", cases: OPERATIONS },
};

export const CASES: readonly FaultCase[] = Object.values(GROUPS).flatMap(({ cases }) => cases);
