/** What a fault needs of the machine, and what to say where it is missing. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Need } from "./fault.ts";

export const root: Need = () => (process.getuid?.() === 0 ? undefined : "needs root");

export function isOnPath(program: string): boolean {
	return (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** A program on the PATH. */
export function program(name: string): Need {
	return () => (isOnPath(name) ? undefined : `needs the program ${name}`);
}

/** strace that may trace our children (not so in some containers). */
export const strace: Need = () =>
	program("strace")() ??
	(spawnSync("strace", ["-o", "/dev/null", "true"]).status === 0 ? undefined : "needs strace that may trace");

/** libfaketime, wherever the distribution put it. */
export function faketimeLibrary(): string | undefined {
	return ["x86_64-linux-gnu", "aarch64-linux-gnu", ""]
		.map((triple) => join("/usr/lib", triple, "faketime/libfaketime.so.1"))
		.find((path) => existsSync(path));
}

export const faketime: Need = () => (faketimeLibrary() === undefined ? "needs libfaketime" : undefined);

/** A mount of a small tmpfs. */
export const tmpfs: Need = () => root() ?? mayMount();

/** An ext4 image on a loop device. */
export const loopExt4: Need = () =>
	root() ??
	program("mkfs.ext4")() ??
	mayMount() ??
	(existsSync("/dev/loop-control") ? undefined : "needs loop devices");

/** Cutting the power of a loop disk: an ioctl, which Node does not have. */
export const powerCut: Need = () =>
	loopExt4() ?? (isOnPath("perl") || isOnPath("python3") ? undefined : "needs perl or python3");

function mayMount(): string | undefined {
	// In a mount namespace of its own, so that the try leaves nothing behind.
	const tried = spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]);
	return tried.status === 0 ? undefined : "needs the right to mount";
}
