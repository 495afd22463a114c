/** E7: daemons that start at once on one data folder. Exactly one wins, whatever the race; the others say who. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { startDaemon } from "../../support/daemon.ts";
import { isGone } from "../../support/processes.ts";
import { createClient } from "../../../src/sources/client.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");
/** A start takes half a second of CPU, and they share it. */
const REFUSED_MS_EACH = 1_500;

interface Start {
	readonly pid: number;
	readonly ready: boolean;
	readonly code: number | null;
	readonly text: string;
	readonly ms: number;
	stop(): Promise<number | null>;
}

/** Resolves when it is ready or gone. */
async function start(dataDir: string, socketPath: string): Promise<Start> {
	const from = performance.now();
	const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", socketPath, "--http-port", "0"];
	const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
	const kill = (): void => void child.kill("SIGKILL");
	process.once("exit", kill);
	const gone = once(child, "close").finally(() => process.off("exit", kill));
	const lines: string[] = [];
	const ready = new Promise<boolean>((resolve) => {
		createInterface({ input: child.stderr }).on("line", (line) => {
			lines.push(line);
			if (line.includes('"msg":"ready"')) resolve(true);
		});
		void gone.then(() => resolve(false));
	});
	const won = await ready;
	return {
		pid: child.pid ?? 0,
		ready: won,
		code: child.exitCode,
		text: lines.join("\n"),
		ms: performance.now() - from,
		async stop() {
			child.kill("SIGTERM");
			await gone;
			return child.exitCode;
		},
	};
}

for (const [where, socketOf] of [
	["on one data folder and one socket", () => "s.sock"],
	["on one data folder, each with a socket of its own", (index: number) => `s${index}.sock`],
] as const) {
	fault("E7", `starts at once ${where}: one wins, the others exit 69 and name it`, async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const count = f.long ? 50 : 4;
		for (let round = 0; round < f.runs(1, 2); round += 1) {
			const starts = await Promise.all(
				Array.from({ length: count }, (_, index) => start(dataDir, join(folder.path, socketOf(index)))),
			);
			const winners = starts.filter(({ ready }) => ready);
			try {
				assert.equal(winners.length, 1, starts.map(({ code, text }) => `${code} ${text}`).join("\n"));
				const [winner] = winners;
				assert.ok(winner !== undefined);
				const losers = starts.filter(({ ready }) => !ready);
				for (const { code, text } of losers) {
					assert.equal(code, 69, text);
					assert.match(text, new RegExp(`\\bpid ${winner.pid}\\b`), "it names the winner");
				}
				const slowest = Math.max(...losers.map(({ ms }) => ms));
				assert.ok(slowest < 5_000 + REFUSED_MS_EACH * count, `the slowest refusal took ${slowest} ms`);
				// The winner was not disturbed.
				using client = createClient(join(folder.path, socketOf(starts.indexOf(winner))));
				await client.call("functions.register", { name: `round${round}` });
				f.record(
					`${count} starts at once: 1 won, ${losers.length} refused, the slowest after ${Math.round(slowest)} ms`,
				);
			} finally {
				for (const winner of winners) assert.equal(await winner.stop(), 0);
			}
		}
	});
}

fault(
	"E7",
	"a second daemon on a used folder exits 69 within seconds, names the first, and disturbs nothing",
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const first = await startDaemon(dataDir);
		try {
			const second = await start(dataDir, join(folder.path, "other.sock"));
			assert.equal(second.code, 69, second.text);
			assert.match(second.text, new RegExp(`\\b${first.pid}\\b`));
			assert.match(second.text, new RegExp(first.socketPath));
			await first.client.call("functions.register", { name: "still-here" });
			// After kill -9 the folder is free at once, and the dead one is not named.
			await first.kill();
			assert.ok(isGone(first.pid));
			const third = await startDaemon(dataDir);
			const fourth = await start(dataDir, join(folder.path, "other.sock"));
			assert.match(fourth.text, new RegExp(`\\bpid ${third.pid}\\b`));
			assert.equal(await third.stop(), 0);
			f.ran(2);
		} finally {
			first.process.kill("SIGKILL");
		}
	},
);

fault(
	"E7",
	"a second daemon with another data folder on the same socket exits 69 and leaves the socket alone",
	async (f) => {
		using folder = tempFolder();
		const first = await startDaemon(join(folder.path, "one"), { socketPath: join(folder.path, "s.sock") });
		try {
			const args = [
				MAIN,
				"serve",
				"--data-dir",
				join(folder.path, "two"),
				"--socket",
				first.socketPath,
				"--http-port",
				"0",
			];
			const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 20_000 });
			assert.equal(status, 69, stderr);
			await first.client.call("stats.get", {});
			f.ran(1);
		} finally {
			assert.equal(await first.stop(), 0);
		}
	},
);
