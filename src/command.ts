/** What the `bunbase` command does once its Node is new enough. `serve` and `dev` load the engine only when they run. */
import { processHost } from "./host.ts";
import { runCli } from "./sources/cli.ts";

export async function main(): Promise<void> {
	const host = processHost();
	const code = await runCli(process.argv.slice(2), {
		...host,
		serve: async (flags) => {
			host.ignoreBrokenPipes();
			return (await import("./daemon.ts")).serve(flags, host);
		},
		dev: async (paths, flags) => {
			return (await import("./daemon.ts")).dev(paths, flags, host);
		},
		doctor: async (flags) => (await import("./upkeep.ts")).doctor(flags, host),
		backup: async (flags, request, progress) => (await import("./upkeep.ts")).backup(flags, request, progress, host),
		restore: async (request, progress) => (await import("./upkeep.ts")).restoreFolder(request, progress, host),
	});
	// Everything is written; what may linger (a socket that reconnects) has nothing left to do.
	process.exit(code);
}
