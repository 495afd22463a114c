/**
 * Small disks of a test's own: an ext4 image on a loop device, whose power can be cut, and a tmpfs. Each is unmounted and
 * removed when it is disposed of, also when its test fails or the process ends in the middle.
 *
 * A power cut is the ioctl FS_IOC_SHUTDOWN without a flush of the journal: from that instant the file system writes
 * nothing more, so the image holds what was written before, as a machine finds it that comes back. It is a lower bound of
 * what a real cut takes, because blocks that ext4 has handed to the device stay; write-recorder.ts is the stricter twin.
 *
 * The ioctl is not one instant for syncs that are under way: one may give up the dirty pages of a file, and another of the same
 * file then finds none and returns success. Seen in 8 of 60 cuts with one thread that syncs and one that writes, in 13 of 60
 * with two that sync; never a sync that had returned before. A real cut ends the processes with the disk, so `powerCutWith`
 * stops them first.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync, type ChildProcess } from "node:child_process";
import {
	copyFileSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statfsSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { isOnPath } from "../needs.ts";

const MiB = 1024 * 1024;
const FS_IOC_SHUTDOWN = 0x8004587d;
const NO_LOG_FLUSH = 2;

export interface Disk extends Disposable {
	/** Where it is mounted. */
	readonly path: string;
	freeBytes(): number;
	/** Takes all space but so much, as another program does; undone by `empty`. */
	fill(leaveBytes?: number): void;
	empty(): void;
}

export interface LoopDisk extends Disk {
	/** As ext4 does by itself when it finds an error of the device. */
	turnReadOnly(): void;
	/** Nothing is written any more; every program on it gets EIO. Returns when that was, by the wall clock. */
	cutPower(): Cut;
	/** A copy of the image as it is now, mounted: what is found when the power comes back. */
	afterPowerCut(): LoopDisk;
}

/** A moment that takes a while: from before the ioctl until it has returned; UTC ms. */
export interface Cut {
	readonly from: number;
	readonly until: number;
}

/** The power goes for the disk and for these processes, at once: none of them tells anybody anything afterwards. */
export function powerCutWith(disk: LoopDisk, processes: readonly ChildProcess[]): void {
	for (const { pid } of processes) if (pid !== undefined) stopEveryThread(pid);
	disk.cutPower();
	for (const child of processes) child.kill("SIGKILL");
}

/** Returns when no thread of it runs: what is in a system call (D) stops before it is back in the program. */
function stopEveryThread(pid: number): void {
	process.kill(pid, "SIGSTOP");
	const runs = (thread: string): boolean => {
		const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
		return !"TD".includes(stat.charAt(stat.lastIndexOf(")") + 2));
	};
	while (readdirSync(`/proc/${pid}/task`).some(runs));
}

/** Images are in memory where that is possible: a disk that is only lent must not wear the real one, nor wait for it. */
const HOME = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

export function loopDisk(options: { readonly bytes?: number; readonly inodes?: number } = {}): LoopDisk {
	const home = mkdtempSync(join(HOME, "bunbase-disk-"));
	const image = join(home, "image");
	writeFileSync(image, "");
	truncateSync(image, options.bytes ?? 48 * MiB);
	const inodes = options.inodes === undefined ? [] : ["-N", String(options.inodes)];
	execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", ...inodes, image]);
	return mountImage(home, image);
}

function mountImage(home: string, image: string): LoopDisk {
	const mounted = mount(home, ["-o", "loop,errors=remount-ro", image]);
	return {
		...diskAt(mounted),
		turnReadOnly() {
			const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
			const device = mounts.find((line) => line.split(" ")[1] === mounted.path)?.split(" ")[0] ?? "";
			writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, "on purpose");
		},
		cutPower() {
			return ioctl(mounted.path, FS_IOC_SHUTDOWN, NO_LOG_FLUSH);
		},
		afterPowerCut() {
			const next = mkdtempSync(join(HOME, "bunbase-disk-"));
			copyFileSync(image, join(next, "image"));
			return mountImage(next, join(next, "image"));
		},
	};
}

export function tmpfsDisk(bytes: number): Disk {
	const home = mkdtempSync(join(tmpdir(), "bunbase-tmpfs-"));
	return diskAt(mount(home, ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs"]));
}

/** A runner that ends this process early must not leave a mount behind: it then ends through `exit`. */
let terminable = false;

/** Processes that keep a disk busy, by a path on it: ended before it is unmounted, where their test failed half way. */
export const usersOfDisks = new Set<{ readonly path: string; readonly end: () => void }>();

interface Mounted extends Disposable {
	readonly path: string;
}

function mount(home: string, what: readonly string[]): Mounted {
	const path = join(home, "mount");
	mkdirSync(path);
	let there = false;
	const away = (): void => {
		process.off("exit", away);
		for (const user of usersOfDisks) if (user.path.startsWith(path)) user.end();
		if (there) unmount(path);
		there = false;
		rmSync(home, { recursive: true, force: true });
	};
	process.on("exit", away);
	if (!terminable) process.once("SIGTERM", () => process.exit(143));
	terminable = true;
	try {
		execFileSync("mount", [...what, path]);
		there = true;
	} catch (error) {
		away();
		throw error;
	}
	return { path, [Symbol.dispose]: away };
}

/** A worker that is about to die may hold it for a moment. */
function unmount(path: string): void {
	const until = performance.now() + 5000;
	for (;;) {
		const tried = spawnSync("umount", [path], { encoding: "utf8" });
		if (tried.status === 0) return;
		if (performance.now() > until) {
			// The mount must not stay whatever happens; who held it is a bug of the test.
			spawnSync("umount", ["-l", path]);
			assert.fail(`${path} was still in use: ${tried.stderr}`);
		}
		Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
	}
}

function diskAt(mounted: Mounted): Disk {
	const filler = join(mounted.path, "filler");
	const freeBytes = (): number => {
		const { bavail, bsize } = statfsSync(mounted.path);
		return bavail * bsize;
	};
	return {
		path: mounted.path,
		freeBytes,
		fill(leaveBytes = 0) {
			const bytes = freeBytes() - leaveBytes;
			if (bytes > 0) spawnSync("fallocate", ["-l", String(bytes), filler]);
			// What fallocate rounds, and what frees up meanwhile, byte by byte to the end.
			if (leaveBytes === 0) spawnSync("dd", ["if=/dev/zero", `of=${filler}`, "bs=4k", "oflag=append", "conv=notrunc"]);
		},
		empty() {
			rmSync(filler, { force: true });
		},
		[Symbol.dispose]: () => mounted[Symbol.dispose](),
	};
}

/** Node has no ioctl; perl is on every Debian. */
function ioctl(path: string, request: number, argument: number): Cut {
	const text = ioctlText(path, request, argument);
	const [from, until] = text.split(" ").map((seconds) => Number(seconds) * 1000);
	if (from === undefined || until === undefined || !(from <= until)) throw new Error(`no times: ${text}`);
	return { from, until };
}

function ioctlText(path: string, request: number, argument: number): string {
	if (isOnPath("perl")) {
		const script =
			'open(my $d, "<", $ARGV[0]) or die $!; my $a = pack("I", $ARGV[2]); my $t = time; ioctl($d, $ARGV[1], $a) or die $!; printf "%.6f %.6f", $t, time';
		const perl = ["-MTime::HiRes=time", "-e", script, path, String(request), String(argument)];
		return execFileSync("perl", perl, { encoding: "utf8" });
	}
	const script =
		'import fcntl,os,struct,sys,time; d=os.open(sys.argv[1],0); t=time.time(); fcntl.ioctl(d,int(sys.argv[2]),struct.pack("I",int(sys.argv[3]))); print(t,time.time())';
	return execFileSync("python3", ["-c", script, path, String(request), String(argument)], { encoding: "utf8" });
}
