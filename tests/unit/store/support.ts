/** What the store's tests share: a folder of their own, and child processes that die. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { silentProbe, type Environment } from "../../../src/core/environment.ts";
import { EngineError, type ErrorCode } from "../../../src/core/errors.ts";
import { openDataFolder, type DataFolder } from "../../../src/store/index.ts";
import { createFakeClock, type FakeClock } from "../../support/fake-clock.ts";

export interface TestEnvironment extends Environment {
	readonly clock: FakeClock;
	readonly warnings: string[];
}

export function makeEnvironment(clock: FakeClock = createFakeClock()): TestEnvironment {
	const warnings: string[] = [];
	const silent = (): void => undefined;
	return {
		clock,
		random: { next: () => Math.random() },
		probe: silentProbe,
		logger: { debug: silent, info: silent, error: silent, warn: (_fields, message) => warnings.push(message) },
		warnings,
	};
}

/** Removed with the test; its name has a space and an umlaut on purpose. */
export function tempFolder(t: TestContext): string {
	const parent = mkdtempSync(join(tmpdir(), "bunbase store ü-"));
	t.after(() => rmSync(parent, { recursive: true, force: true }));
	return join(parent, "data folder");
}

/** Opens a folder and closes it with the test. */
export function open(t: TestContext, dataDir: string, environment: Environment = makeEnvironment()): DataFolder {
	const folder = openDataFolder({ dataDir, durability: "power", environment });
	t.after(() => folder.close());
	return folder;
}

/** For assert.throws and assert.rejects: the code, and words that the message must have. */
export function refusal(code: ErrorCode, ...words: readonly string[]): (error: unknown) => true {
	return (error) => {
		if (!(error instanceof EngineError)) throw new Error("expected an EngineError", { cause: error });
		if (error.code !== code) throw new Error(`expected ${code}, got ${error.code}: ${error.message}`, { cause: error });
		for (const word of words) {
			if (!error.message.includes(word)) throw new Error(`expected "${word}" in: ${error.message}`);
		}
		return true;
	};
}

const HOLDER = join(import.meta.dirname, "holder.child.ts");

/**
 * A process that opens the folder. Says "open" and holds it, or "refused CODE" and ends; with `dieAt` it kills itself
 * when the probe hits that point (for `folder.database_opened`: the point, a colon and the file).
 */
export function spawnHolder(t: TestContext, dataDir: string, dieAt = ""): ChildProcess {
	const child = spawn(process.execPath, [HOLDER, dataDir, dieAt], { stdio: ["ignore", "pipe", "inherit"] });
	t.after(async () => {
		if (child.exitCode !== null || child.signalCode !== null) return;
		child.kill("SIGKILL");
		await once(child, "exit");
	});
	return child;
}

/** The next line that a child says; undefined where it ends without one. */
export async function lineOf(child: ChildProcess): Promise<string | undefined> {
	for await (const chunk of child.stdout ?? []) return String(chunk).trim();
	return undefined;
}

export async function kill(child: ChildProcess): Promise<void> {
	const exited = once(child, "exit");
	child.kill("SIGKILL");
	await exited;
}
