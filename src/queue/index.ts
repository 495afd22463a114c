/** The queue's door. */
export type { Slots } from "./claim.ts";
export type { Submission } from "./enqueue.ts";
export { highestSeq, inspectRows, type InspectRowsOptions } from "./inspect.ts";
export { Lane } from "./lanes.ts";
export { Queue, type EventToCommit, type QueueDeps } from "./queue.ts";
export type { Claim, EndedInvocation, Ticket } from "./outgoing.ts";
export type { Names } from "./read.ts";
export type { Settled } from "./settle.ts";
