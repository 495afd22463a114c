/** The storage cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const STORAGE: readonly FaultCase[] = [
	{
		id: "B1",
		what: "The power goes while callers submit and functions run",
		injection:
			"A daemon on an ext4 image of its own, 8 callers; after 1 to 1,000 acknowledgements every thread of the daemon is stopped, FS_IOC_SHUTDOWN without a flush of the journal, SIGKILL; a copy of the image is mounted and a daemon started on it. Also with a daemon that goes on and has to notice",
		holds: "I1, I2, I7, I8, I11; what was acknowledged is remembered outside of the image",
		notCovered: ["disks that say that they have written what they have not: nothing can be promised there"],
	},
	{
		id: "B2",
		what: 'The same with durability "process"',
		injection: "As B1",
		holds: "I8; what is lost is the newest: no seq is missing before the last one that is there",
	},
	{
		id: "B3",
		what: "Writes that were not synced are on the disk or not, in any combination, torn at 512 or 4,096 bytes",
		injection:
			"strace records every write, truncation, sync, creation, rename and removal of the real store and queue from an empty folder on; images are rebuilt for cuts at random steps",
		holds: "I1, I3, I7, I8; every image opens, and all that is left in it can be run",
	},
	{
		id: "B4",
		what: "The power goes while versions are deployed",
		injection: "As B1, with deploys of three functions one after another; also in the record of B3",
		holds:
			"An acknowledged version is there with its bytes; each function runs its old or its new version; the deploy that was cut short can be done again",
	},
	{
		id: "B5",
		what: "The power goes during checkpoints and pruning",
		injection:
			"As B1 while another program checkpoints every millisecond; as B3 with a checkpoint in each turn and with pruning",
		holds: "I1, I3, I8",
		bugs: [
			"a sync said that it went well while another one of the same file had failed and dropped its pages, and its callers were told; one invocation was lost so: fixed in “Queue: once the store has failed nobody is told any more, also of a sync that says it went well”",
		],
		notCovered: ["a cut during a backup: a backup is whole or is not there also after kill -9, see B22"],
	},
	{
		id: "B6",
		what: "The disk is filled by the daemon's own work",
		injection: "A tmpfs of 14 MiB (with ballast) or 4 MiB (without); it grows afterwards",
		holds:
			"Refusals are STORAGE_FULL with Retry-After; what runs records its end from the ballast, or waits without it; the same daemon goes on; I1, I8",
	},
	{
		id: "B7",
		what: "Another program fills the disk and frees it again",
		injection:
			"An ext4 image of 32 MiB, filled to the last block under load; also at deploys with 0 to 460 KiB left, and at a start",
		holds:
			"As B6, without a restart; a deploy is refused whole; under the low mark new work is refused before the disk is full",
		bugs: [
			"a deploy whose row the full disk refused left its bundle, and that version was VERSION_CONFLICT for other bytes until the next start: fixed in “A deploy that the full disk refused leaves nothing behind”",
		],
		notCovered: [
			"on a full disk no worker is started, because each needs a folder: queued work waits, up to 60 s longer than the disk is full",
		],
	},
	{
		id: "B8",
		what: "The n-th write answers ENOSPC, for every n",
		injection: "strace on the running daemon, pwrite64:error=ENOSPC:when=n, n from 1 on",
		holds: "I1, I8, I11; every refusal is STORAGE_FULL; the daemon stays",
	},
	{
		id: "B9",
		what: "A sync answers EIO: the n-th, every one from the n-th on, every seventh",
		injection: "strace on the running daemon, fdatasync of the WAL, fsync of checkpoints, fsync of metadata.db",
		holds:
			"Exit 74 at once, callers are told that the outcome is unknown, I1 after the next start. A checkpoint that cannot sync is tried again: its commits are in the WAL",
		bugs: [
			"an fsync of metadata.db that failed was answered, and the daemon went on with functions that the disk may not have: fixed in “An I/O error of metadata.db stops the daemon as one of queue.db does”",
		],
	},
	{
		id: "B10",
		what: "Reads of the database answer EIO",
		injection: "strace, every first to fifth pread64 of queue.db, while every record is asked for",
		holds: "The right answer, or IO_ERROR or DATA_CORRUPT for that request; never a wrong answer",
		bugs: [
			"a read that failed was told as a defect of the engine (INTERNAL): fixed in “A read that the disk refuses is told as IO_ERROR or DATA_CORRUPT”",
		],
	},
	{
		id: "B11",
		what: "Writes are short; reads and writes are interrupted (EINTR) or would block (EAGAIN)",
		injection:
			"A preloaded library that writes a part of every third write to disk or socket; strace for EINTR and EAGAIN",
		holds: "Nobody notices: nothing is refused, I1, I7, I8",
	},
	{
		id: "B12",
		what: "The disk is slow: each sync takes 50 ms or 500 ms; one hangs for 5 s",
		injection: "strace, delay_enter on fsync and fdatasync in all threads",
		holds: "Nothing is refused, callers share syncs, what answered within its time limit has succeeded, I8",
	},
	{
		id: "B13",
		what: "A limit on the size of files (RLIMIT_FSIZE)",
		injection: "prlimit --fsize on the running daemon, a little above the size of the WAL",
		holds: "As B9",
	},
	{
		id: "B14",
		what: "The file system turns read-only under the daemon",
		injection: "ext4 with errors=remount-ro, an error triggered by hand (a remount is refused while files are open)",
		holds: "Exit 74 with a clear message; a start on it is refused; I1 when it can be written again",
		notCovered: [
			"what is acknowledged within the milliseconds of the change: Linux 6.18 was seen to answer 0 to an fdatasync whose data never reached the image",
		],
	},
	{
		id: "B15",
		what: "The data folder, queue.db or its WAL is deleted, renamed or replaced under the daemon",
		injection: "mv, rm, cp",
		holds: "Exit 74 within 5 s with a message that names the file; nothing is written into the folder at its place",
	},
	{
		id: "B16",
		what: "Bytes change or are missing while nobody runs",
		injection:
			"Bits and sectors of queue.db at random, a quarter of them in page headers; halves, zeros and garbage in every file, before a real start; files emptied and deleted; damage in a queue.db too large to be read before serving; a changed bundle; doctor on each",
		holds:
			"The start is refused with exit 65 and nothing is changed, or a read is refused, or the answer is right: what was submitted and answered is never another; a missing database is never begun anew",
		bugs: [
			"a sector of zeros at the end of a row was an empty result that matched its checksum (seed 1, byte 1464293); a damaged logs.db ended a start with 1 and INTERNAL; a queue.db that SQLite cannot read was STORE_ERROR, or was told without its name; a damaged page of a queue.db that was closed in order was served, without the row that it hid: fixed in “Zeros are not whole: checksums over bodies alone hold for rows of the first schema only; damage is told with its file”",
		],
		notCovered: [
			"columns without a checksum (state, times, lane, tags): a bit that flips there is believed; SQLite has no checksums of pages",
			"a key of a b-tree that changed hides its row in a database over 64 MiB: INVOCATION_NOT_FOUND, until doctor or the check after an unclean stop",
		],
	},
	{
		id: "B17",
		what: "The WAL is deleted, cut, zeroed or changed after a kill; an older database is put back",
		injection: "By hand; and 2 ms between high-water marks under kill -9 and power cuts for the reverse",
		holds:
			"The start ends with DATA_ROLLED_BACK and names what is missing; --accept-rollback goes on above it; a kill or a power cut is never taken for a loss",
		notCovered: ["what was lost within the second before the last mark cannot be seen"],
	},
	{
		id: "B18",
		what: "The WAL index (-shm) is garbage, zeros, cut or gone after a kill",
		injection: "By hand, all three databases",
		holds: "It is made anew: I1, I8",
	},
	{
		id: "B19",
		what: "A database of another program, of another instance, or of a newer version",
		injection: "application_id, user_version, files exchanged",
		holds: "Exit 65, DATA_FOREIGN or DATA_NEWER; nothing is changed",
		notCovered: ["a start on data of an older version: there is one schema so far; migrations have unit tests"],
	},
	{
		id: "B20",
		what: "Another program holds a read transaction",
		injection: "A second connection with an open SELECT, bodies until the WAL is over 64 MiB",
		holds: "No caller waits for it; the daemon tells it once; the WAL is short again when it ends",
	},
	{
		id: "B21",
		what: "Another program holds the write lock, for 1 s or until new work is refused",
		injection: "BEGIN IMMEDIATE in a second connection",
		holds: "1 s is waited for; then 503 STORE_BUSY after about 2 s; reads go on; what runs is recorded afterwards",
		notCovered: ["a lock of 60 s: it differs from one of 3 s in nothing"],
	},
	{
		id: "B22",
		what: "A backup under load, restored elsewhere; deaths, full disks and damage in the middle of either",
		injection: "bunbase backup and restore as processes; kill -9 at named points",
		holds:
			"All that was acknowledged before the backup is in it and runs after the restore; a backup is whole, or is not there",
	},
	{
		id: "B23",
		what: "A database of more than 1 GiB, beyond the page that SQLite never uses",
		injection: "Bodies of 5 MiB until queue.db is 64 MiB beyond it",
		holds: "I1, I7, I8",
	},
	{
		id: "B24",
		what: "No inodes, no descriptors, no quota",
		injection: "An ext4 with 256 inodes, all taken; prlimit --nofile down to the lowest free one; EDQUOT by strace",
		holds:
			"Lines are missing in the log files and told so, work goes on, a deploy is STORAGE_FULL; EDQUOT in a database ends the daemon with 74, because SQLite gives the same error as for a broken disk",
		bugs: [
			"a deploy over quota was STORE_ERROR, outcome unknown, because libuv has no name for EDQUOT: fixed in “A quota that is used up counts as a full disk”",
		],
	},
	{
		id: "B25",
		what: "The JSONL files after deaths, torn lines and oversize",
		injection: "kill -9 while functions log, the last line cut by hand; 2 GB in the place of today's file",
		holds:
			"At most one torn line for each death, none joined to another; the large file is left alone and the next is begun",
		notCovered: ["a reader of these files that skips and counts: the engine reads its logs from logs.db"],
	},
];
