/** The queue's door. */
export type { Claim, Slots, Ticket } from "./claim.ts";
export type { Submission } from "./enqueue.ts";
export { highestSeq, inspectRows, type InspectRowsOptions } from "./inspect.ts";
export { Lane } from "./lanes.ts";
export { Queue, type EventToCommit, type QueueDeps } from "./queue.ts";
export type { EndedInvocation, Settled } from "./settle.ts";
export type { Names } from "./read.ts";
