/** Starts children in every way a function might, says their pids in the file FAMILY, and runs until it is stopped. */
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";

export default function handler(): Promise<Response> {
	const family: Record<string, number> = {};
	const add = (name: string, command: string, args: string[], options: object = {}): void => {
		family[name] = spawn(command, args, { stdio: "ignore", ...options }).pid ?? 0;
	};
	add("child", "sleep", ["1000"]);
	add("detached child", "sleep", ["1000"], { detached: true });
	// A child of a shell: the shell lives, and the other is its child.
	add("shell", "sh", ["-c", "sleep 1000 & wait"]);
	// Its shell ends at once, so it is nobody's child any more, in a session of its own.
	const daemon = Bun.spawnSync(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"], {
		// Nothing in its environment says where it came from.
		env: { PATH: process.env["PATH"] ?? "" },
	});
	const daemonised = Number(daemon.stdout.toString());
	const bun = Bun.spawn(["sleep", "1000"], { stdio: ["ignore", "ignore", "ignore"] });
	family["Bun.spawn"] = bun.pid;
	appendFileSync(
		process.env["FAMILY"] ?? "/dev/null",
		`${JSON.stringify({ worker: process.pid, family, daemonised })}\n`,
	);
	return new Promise(() => undefined);
}
