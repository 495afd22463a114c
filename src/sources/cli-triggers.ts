/** `schedules` and `events`: what makes invocations without a caller. */
import type { Command } from "commander";
import type { Misfire, Overlap } from "../core/function-config.ts";
import { LIMITS } from "../core/limits.ts";
import { integer, type Run } from "./cli-group.ts";
import { relativeTime, table } from "./cli-output.ts";
import { parseChoice, parseJson } from "./cli-parse.ts";
import { array, number, object, text, type Session } from "./cli-session.ts";

// Written out, because function-config.ts brings zod along, which a command line has no time for (40 ms).
const MISFIRE = ["once", "skip", "all"] as const satisfies readonly Misfire[];
const OVERLAP = ["allow", "skip", "queue"] as const satisfies readonly Overlap[];

interface PutOptions {
	readonly name?: string;
	readonly timezone?: string;
	readonly misfire?: string;
	readonly overlap?: string;
	readonly data?: string;
}

export function addTriggerCommands(program: Command, run: Run): void {
	const schedules = program.command("schedules").summary("cron schedules").description("Cron schedules of functions.");
	schedules
		.command("list", { isDefault: true })
		.description("List schedules and when they fire next.")
		.argument("[name]", "only of this function")
		.action(run(listSchedules));
	schedules
		.command("put")
		.description(
			"Make a schedule, or change the function's schedule of that name.\n" +
				"Example: bunbase schedules put report '0 9 * * 1-5' --timezone Europe/Berlin --data '{\"kind\":\"daily\"}'",
		)
		.argument("<name>", "function name or id")
		.argument("<cron>", "5 fields, or 6 with leading seconds, or an alias like @daily")
		.option("--name <schedule>", "schedule name; default: the expression and the zone")
		.option("--timezone <zone>", "IANA time zone; default UTC")
		.option("--misfire <policy>", `after a missed time: ${MISFIRE.join(", ")} (default once)`)
		.option("--overlap <policy>", `while the last one runs: ${OVERLAP.join(", ")} (default skip)`)
		.option("--data <json>", "JSON body of the requests")
		.action(run(putSchedule));
	schedules
		.command("delete")
		.description("Delete a schedule; invocations that it made stay.")
		.argument("<schedule>", "schedule id, or name where only one has it")
		.action(
			run(async (session, id: string) => {
				await session.print(await session.call("schedules.delete", { schedule_id: id }), "");
				await session.tell(`deleted ${id}\n`);
			}),
		);
	for (const paused of [true, false]) {
		schedules
			.command(paused ? "pause" : "resume")
			.description(paused ? "Stop a schedule until it is resumed." : "Let a paused schedule fire again.")
			.argument("<schedule>", "schedule id, or name where only one has it")
			.action(
				run(async (session, id: string) => {
					await session.print(await session.call("schedules.pause", { schedule_id: id, paused }), "");
					await session.tell(`${paused ? "paused" : "resumed"} ${id}\n`);
				}),
			);
	}

	const events = program
		.command("events")
		.summary("internal events")
		.description("Events, and the invocations they made.");
	events
		.command("emit")
		.description("Commit an event together with one invocation for each function that subscribes to its type.")
		.argument("<type>", "event type, e.g. order.created")
		.argument("[data]", "JSON data")
		.option("--id <id>", "the emitter's own id; with --source it makes the event unique")
		.option("--source <source>", "who emits it")
		.action(run(emit));
	events
		.command("list", { isDefault: true })
		.description("List the newest events.")
		.option("-n, --limit <number>", "how many", integer, LIMITS.listPageDefault)
		.action(run(listEvents));
}

async function listSchedules(session: Session, name: string | undefined): Promise<void> {
	const schedules = await session.list("schedules.list", "schedules", { function: name });
	await session.print({ schedules }, () =>
		schedules.length === 0
			? ""
			: table(
					session.host.stdout,
					["ID", "FUNCTION", "NAME", "CRON", "ZONE", "NEXT", "LAST", "MISFIRE", "OVERLAP", "FROM"],
					schedules.map((row) => [
						text(row["schedule_id"]),
						text(row["function_name"]),
						text(row["name"]),
						text(row["cron"]),
						text(row["timezone"]),
						row["paused"] === true ? "paused" : relativeTime(number(row["next_due_at"]), session.now()),
						relativeTime(number(row["last_slot_at"]), session.now()),
						text(row["misfire"]),
						text(row["overlap"]),
						text(row["origin"]),
					]),
				),
	);
	if (schedules.length === 0) await session.tell("no schedules\n");
}

async function putSchedule(session: Session, name: string, cron: string, options: PutOptions): Promise<void> {
	const answer = await session.call("schedules.put", {
		function: name,
		cron,
		name: options.name,
		timezone: options.timezone,
		misfire: options.misfire === undefined ? undefined : parseChoice("--misfire", MISFIRE, options.misfire),
		overlap: options.overlap === undefined ? undefined : parseChoice("--overlap", OVERLAP, options.overlap),
		data: options.data === undefined ? undefined : parseJson("--data", options.data),
	});
	await session.print(answer, () => {
		const next = number(answer["next_due_at"]);
		const when =
			next === undefined
				? ""
				: `, next at ${new Date(next).toISOString()} (${relativeTime(next, session.now()) ?? ""})`;
		return `${text(answer["schedule_id"])} ${text(answer["name"])}${when}\n`;
	});
}

async function emit(
	session: Session,
	type: string,
	data: string | undefined,
	options: { id?: string; source?: string },
): Promise<void> {
	const answer = await session.call("events.emit", {
		type,
		data: data === undefined ? null : parseJson("the event's data", data),
		id: options.id,
		source: options.source,
	});
	const made = array(answer["invocations"]).map(object);
	await session.print(answer, () =>
		made.map((row) => `${text(row["invocation_id"])}  ${text(row["function_name"])}\n`).join(""),
	);
	const count = `${made.length} ${made.length === 1 ? "invocation" : "invocations"}`;
	await session.tell(`${text(answer["event_id"])}: ${count}\n`);
}

async function listEvents(session: Session, options: { limit: number }): Promise<void> {
	const events = await session.list("events.list", "events", { limit: options.limit });
	await session.print({ events }, () =>
		events.length === 0
			? ""
			: table(
					session.host.stdout,
					["ID", "TYPE", "EMITTED", "INVOCATIONS", "DATA"],
					events.map((row) => [
						text(row["event_id"]),
						text(row["type"]),
						relativeTime(number(row["created_at"]), session.now()),
						array(row["invocation_ids"]).length,
						JSON.stringify(row["data"]),
					]),
				),
	);
	if (events.length === 0) await session.tell("no events\n");
}
