/** The storage cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const STORAGE: readonly FaultCase[] = [
	{
		id: "B1",
		what: "power cut during accept load, FULL",
		injection: "FS_IOC_SHUTDOWN loop ext4, ≥ 50 runs",
		holds: "I1 strict",
	},
	{
		id: "B2",
		what: 'power cut, NORMAL (`durability:"process"`)',
		injection: "same",
		holds: "consistent; lost ⊆ last window, order prefix-closed",
	},
	{
		id: "B3",
		what: "power cut with torn/reordered writes",
		injection: "recorder + image rebuild",
		holds: "I1, I8",
	},
	{
		id: "B4",
		what: "power cut during deploy",
		injection: "",
		holds: "A7",
	},
	{
		id: "B5",
		what: "power cut during checkpoint/backup/vacuum/prune",
		injection: "B1 with forced `wal_checkpoint(TRUNCATE)` each 10 ms",
		holds: "I1",
	},
	{
		id: "B6",
		what: "ENOSPC tmpfs 2 MB",
		injection: "",
		holds: "I1, I3 recorded for running, recovery when freed",
	},
	{
		id: "B7",
		what: "ENOSPC loop ext4 8 MB, filled by another process, freed again",
		injection: "`fallocate`",
		holds: "same, no restart needed",
	},
	{
		id: "B8",
		what: "ENOSPC at the n-th pwrite, every n",
		injection: "strace inject `pwrite64:error=ENOSPC:when=N` (0 acked lost in try)",
		holds: "I1",
	},
	{
		id: "B9",
		what: "EIO on fsync, n-th / every 7th",
		injection:
			"strace or LD_PRELOAD; SQLite gives `SQLITE_IOERR_FSYNC` and, if you go on, no acked row was lost here – we stop anyway",
		holds: "fail-stop ≤ 1 s, exit 74, I1 after restart",
	},
	{
		id: "B10",
		what: "EIO on read (pread64)",
		injection: "strace inject",
		holds: "fail-stop or request error, never wrong data",
	},
	{
		id: "B11",
		what: "short write / EINTR / EAGAIN on pwrite, sendmsg",
		injection: "strace inject `retval=`",
		holds: "I1, framing intact",
	},
	{
		id: "B12",
		what: "slow disk: fsync 50 ms, 500 ms, 5 s hang",
		injection: "`inject=fsync:delay_enter=` (50 ms ⇒ 20 commits/s un-batched)",
		holds: "back-pressure, event loop stall alarm, timeouts still right",
	},
	{
		id: "B13",
		what: "RLIMIT_FSIZE",
		injection: "`ulimit -f` ⇒ SQLITE_IOERR_WRITE (SIGXFSZ ignored by Node)",
		holds: "like B9",
	},
	{
		id: "B14",
		what: "read-only remount while running",
		injection: "`mount -o remount,ro` on loop",
		holds: "fail-stop, clear message",
	},
	{
		id: "B15",
		what: "data dir deleted / replaced / renamed under the daemon",
		injection: "`mv`",
		holds: "detected by inode watch ≤ 5 s, fail-stop",
	},
	{
		id: "B16",
		what: "db byte flips: header, page header, payload, index, freelist; truncate half; 0 bytes",
		injection: "script",
		holds: "refuse to start; checksum finds payload flips; 0-byte refused by marker",
	},
	{
		id: "B17",
		what: "WAL truncated, flipped, header flipped, deleted, zeroed",
		injection: "",
		holds: "detected by the high-water mark (6.7), reported; never silent",
	},
	{
		id: "B18",
		what: "-shm garbage",
		injection: "",
		holds: "I1",
	},
	{
		id: "B19",
		what: "foreign db in place (other application_id), newer user_version, older version",
		injection: "`PRAGMA application_id/user_version`",
		holds: "refuse / migrate",
	},
	{
		id: "B20",
		what: "someone runs `sqlite3 db` with a long read transaction",
		injection:
			"held reader: WAL grew to 95 MB for 20k rows; PASSIVE/TRUNCATE blocked; TRUNCATE waits busy_timeout on our event loop",
		holds: "I10, loop not blocked, alarm",
	},
	{
		id: "B21",
		what: "someone holds a write lock (`BEGIN IMMEDIATE`) 1 s, 60 s",
		injection: "other process",
		holds: "waits bounded, then 503; no data loss",
	},
	{
		id: "B22",
		what: "online backup during full load; restore elsewhere; verify",
		injection: "`db.backup()` (27 writes went on, max loop gap 2.6 ms for 19 MB)",
		holds: "I1 up to the snapshot; restored instance drains",
	},
	{
		id: "B23",
		what: "db > 1 GiB (lock page at 0x40000000)",
		injection: "bulk fill",
		holds: "I8",
	},
	{
		id: "B24",
		what: "inode exhaustion; EDQUOT; EMFILE on log rotate",
		injection: "small ext4 `-N 64`; strace inject",
		holds: "logs drop, queue goes on",
	},
	{
		id: "B25",
		what: "JSONL torn last line, 2 GB line file, rotation at kill",
		injection: "truncate mid-line",
		holds: "reader skips and counts; writer starts on a new line",
	},
];
