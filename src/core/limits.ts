/**
 * Every bound of the engine that no function configures, with its unit and its reason.
 * Bounds of one function are in function-config.ts; reaching one of either is a tested path.
 */

const KiB = 1024;
const MiB = 1024 * KiB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const LIMITS = {
	/** Largest body either way: 11 MiB in base64 still fits a 16 MiB frame. */
	bodyBytesMax: 11 * MiB,
	/** Bodies up to here live in the invocation's row; larger ones apart, because SQLite rewrites a row at each state change. */
	bodyInlineBytesMax: 4 * KiB,
	/** Headers of a request or response, as JSON text. */
	headersBytesMax: 64 * KiB,
	pathBytesMax: 8 * KiB,
	idempotencyKeyCharsMax: 255,
	idempotencyTtlMs: DAY,
	laneKeyCharsMax: 128,
	tagsMax: 16,
	tagCharsMax: 128,
	/** Inclusive bounds of `priority`; higher runs first. */
	priorityMax: 1000,
	/** A delay or deadline further away than this is surely a unit mistake. */
	delayMsMax: 366 * DAY,
	/** The end of the year 9999. */
	runAtMax: 253_402_300_799_999,
	maxAttemptsMax: 1000,
	/** An invocation that was running in ten daemons that died is taken to be why they died. */
	daemonDeathsMax: 10,
	/** An invocation whose worker died this often with nobody else aboard is a poison pill, whatever its maxAttempts. */
	workerDeathsMax: 3,
	batchMax: 1000,
	/** One error text in a record (message or stack each). */
	errorTextBytesMax: 16 * KiB,

	/** One log line; longer ones are cut and marked. */
	logLineBytesMax: 16 * KiB,
	/** Log bytes of one attempt; what follows is counted, not kept. */
	logBytesPerAttemptMax: 1 * MiB,
	/** Lines waiting for the log writer; more are dropped and counted, because logs never hold up invocations. */
	logBacklogLinesMax: 20_000,
	/** Characters of those lines: 20,000 lines of the largest size would be 320 MB. */
	logBacklogCharsMax: 16 * MiB,
	logFlushMs: 200,
	/** Lines of one transaction of the log writer: about 8 ms with three indexes. */
	logFlushLines: 1000,
	/** A day's JSONL file is continued in another past this. */
	logFileBytesMax: 64 * MiB,
	logPageMax: 1000,
	/** `total` of a log page stops counting here, because that takes 8 ms already. */
	logTotalMax: 100_000,

	listPageMax: 1000,
	listPageDefault: 50,
	awaitMsMax: 24 * HOUR,
	waitMsDefault: 30 * SECOND,

	resultRetentionMs: 7 * DAY,
	logRetentionMs: 30 * DAY,
	/** Rows looked at by one pruning step: about 2 ms, so that serving is not disturbed. */
	pruneStepRows: 500,
	maintenanceMs: 10 * SECOND,

	/** A worker that is not READY by then has failed to start. */
	workerStartMsMax: 10 * SECOND,
	/** Neighbours of a timed-out attempt get this long to finish before their worker is killed. */
	neighbourGraceMsMax: 5 * SECOND,
	/** A worker loop that does not answer for this long gets no new work. */
	loopSilentMs: 50,
	memorySampleBusyMs: 250,
	memorySampleIdleMs: 2 * SECOND,
	/** Failed starts in a row that open a version's breaker. */
	startFailuresMax: 3,
	breakerBaseMs: 1 * SECOND,
	breakerCapMs: 60 * SECOND,
	workersTotalDefault: 32,
	spareWorkersDefault: 1,
	spawnsAtOnceMax: 4,
	drainMs: 30 * SECOND,

	buildMsMax: 60 * SECOND,
	buildsAtOnceMax: 2,
	/** Resident memory of one bundler, which reads whatever the source imports: 60 MB of small functions took it 5.4 GB. */
	buildMemoryBytesMax: 2048 * MiB,
	bundleBytesMax: 64 * MiB,
	envBytesMax: 64 * KiB,

	/** Disk space held back, so that answers of running work can be recorded when the disk is full. */
	ballastBytes: 8 * MiB,
	/** With less free space than this share of the disk new work is refused; the share is at least and at most so much. */
	freeShareMin: 0.01,
	freeBytesMin: 64 * MiB,
	freeBytesMinMost: 1024 * MiB,
	/** A WAL is cut back to this after a checkpoint, because by itself it never shrinks; one that is longer is told of. */
	walBytesMax: 64 * MiB,
	/** How often the data folder is looked at, and its high-water mark written. */
	keeperMs: 1 * SECOND,

	/** Catch-up runs of one schedule with misfire `all`. */
	misfireRunsMax: 100,
	/** A clock before this is not set: the engine is younger. A machine without a battery starts in 1970. */
	clockFrom: Date.UTC(2020, 0, 1),
	/** A clock that is further than this from the newest data was wrong then, or is wrong now. */
	clockBackMsMax: 366 * DAY,
	/** How far ahead an expression is searched before it is called impossible: 29 February comes within 8 years. */
	cronHorizonMs: 9 * 366 * DAY,

	/** Output waiting for one socket client; past it the client is too slow and is disconnected. */
	socketOutputBytesMax: 64 * MiB,
	socketBacklog: 4096,
} as const;
