/** `lanes`, `workers`, `stats`, `version`: how the daemon is. */
import type { Command } from "commander";
import { failureOf } from "./cli-errors.ts";
import type { Run } from "./cli-group.ts";
import { bytesText, durationText, fields, relativeTime, table } from "./cli-output.ts";
import { array, number, object, text, type Session, type Wire } from "./cli-session.ts";

export function addOperatingCommands(program: Command, run: Run): void {
	const lanes = program
		.command("lanes")
		.summary("queues of functions")
		.description("Each function's lane: its queue with its limit.");
	lanes
		.command("list", { isDefault: true })
		.description("List lanes: what runs, what waits, and why nothing starts.")
		.action(run(listLanes));
	for (const paused of [true, false]) {
		lanes
			.command(paused ? "pause" : "resume")
			.description(paused ? "Start no more of a function's work; it is still accepted." : "Start its work again.")
			.argument("<name>", "function name or id")
			.action(
				run(async (session, name: string) => {
					const lane = await session.call("lanes.pause", { function: name, paused });
					await session.print(lane, "");
					await session.tell(
						`${paused ? "paused" : "resumed"} ${name}: ${number(lane["ready"]) ?? 0} ready, ${number(lane["running"]) ?? 0} running\n`,
					);
				}),
			);
	}
	program
		.command("workers")
		.summary("worker processes")
		.description("List worker processes and what they run.")
		.action(run(listWorkers));
	program.command("stats").summary("the daemon in numbers").description("The daemon in numbers.").action(run(stats));
	program
		.command("version")
		.summary("versions of this command and of the daemon")
		.description("Versions of this command and of the daemon on the socket, where one answers.")
		.action(run(version));
}

async function listLanes(session: Session): Promise<void> {
	const lanes = await session.list("lanes.list", "lanes");
	await session.print({ lanes }, () =>
		lanes.length === 0
			? ""
			: table(
					session.host.stdout,
					["FUNCTION", "RUNNING", "LIMIT", "READY", "DELAYED", "MAX-QUEUED", "STATE"],
					lanes.map((row) => [
						text(row["function_name"]),
						number(row["running"]),
						number(row["limit"]),
						number(row["ready"]),
						number(row["delayed"]),
						number(row["max_queued"]),
						row["paused"] === true ? "paused" : text(row["blocked"]) || "open",
					]),
				),
	);
	if (lanes.length === 0) await session.tell("no lanes\n");
}

async function listWorkers(session: Session): Promise<void> {
	const workers = await session.list("workers.list", "workers");
	await session.print({ workers }, () =>
		workers.length === 0
			? ""
			: table(
					session.host.stdout,
					["WORKER", "PID", "FUNCTION", "VERSION", "STATE", "RUNNING", "RAN", "MEMORY", "READY", "STARTED"],
					workers.map((row) => {
						const readyMs = number(row["ready_ms"]);
						return [
							text(row["worker"]),
							number(row["pid"]),
							text(row["function_name"]),
							text(row["version"]),
							text(row["state"]),
							array(row["running"]).length,
							number(row["ran"]),
							bytesText(number(row["memory_bytes"])),
							readyMs === undefined ? undefined : durationText(readyMs),
							relativeTime(number(row["started_at"]), session.now()),
						];
					}),
				),
	);
	if (workers.length === 0) await session.tell("no workers; the next invocation starts one\n");
}

async function stats(session: Session): Promise<void> {
	const record = await session.call("stats.get", {});
	await session.print(record, () =>
		fields(session.host.stdout, [
			["version", text(record["version"])],
			["pid", number(record["pid"])],
			["data", text(record["data_dir"])],
			["up", durationText(Math.max(0, session.now() - (number(record["started_at"]) ?? 0)))],
			["state", record["draining"] === true ? "draining" : "taking work"],
			["functions", number(record["functions"])],
			["queued", number(record["queued"])],
			["running", number(record["running"])],
			["accepted", number(record["accepted"])],
			["commits", number(record["commits"])],
			["ended", counts(object(record["ended"]))],
			["workers", counts(object(record["workers"]))],
			["memory", bytesText(number(record["rss_bytes"]))],
			["log lines dropped", number(record["log_lines_dropped"])],
		]),
	);
}

/** `succeeded 12, failed 1`; zeros are left out. */
function counts(record: Wire): string {
	return Object.entries(record)
		.filter(([, count]) => typeof count === "number" && count > 0)
		.map(([name, count]) => `${name} ${String(count)}`)
		.join(", ");
}

async function version(session: Session): Promise<void> {
	let daemon: string | undefined;
	try {
		daemon = text((await session.call("stats.get", {}))["version"]);
	} catch (error) {
		if (failureOf(error).code !== "DAEMON_UNREACHABLE") throw error;
	}
	const { host } = session;
	await session.print(
		{ version: host.version, daemon: daemon ?? null, socket: session.socketPath, node: process.versions.node },
		() =>
			fields(host.stdout, [
				["bunbase", host.version],
				["daemon", daemon ?? `none answers on ${session.socketPath}`],
				["node", process.versions.node],
			]),
	);
}
