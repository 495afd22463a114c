/** `invoke`, `result`, `cancel`, `retry`, `invocations`: one invocation's life as seen from a terminal. */
import type { Command } from "commander";
import { EngineError, EXIT } from "../core/errors.ts";
import { isTerminal, STATES, type State } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import { readBody, withReadableBody, writeBody } from "./cli-body.ts";
import { Exit, failureOf } from "./cli-errors.ts";
import type { Run } from "./cli-group.ts";
import { collect, duration, integer } from "./cli-group.ts";
import { durationText, painter, plain, relativeTime, table } from "./cli-output.ts";
import { parseChoice, parseHeader, parsePair } from "./cli-parse.ts";
import { array, number, object, text, type Session, type Wire } from "./cli-session.ts";

/** Longer than a daemon takes to drain and start again is a daemon that stays away. */
const AWAY_MS_MAX = 60_000;
const AGAIN_MS = 100;

interface InvokeOptions {
	readonly method: string;
	readonly path: string;
	readonly header?: readonly string[];
	readonly query?: readonly string[];
	readonly async?: boolean;
	readonly idempotencyKey?: string;
	readonly delay?: number;
	readonly priority?: number;
	readonly deadline?: number;
	readonly maxAttempts?: number;
	readonly laneKey?: string;
	readonly tag?: readonly string[];
	readonly wait?: number;
}

export function addInvocationCommands(program: Command, run: Run): void {
	program
		.command("invoke")
		.summary("call a function and print its response")
		.description(
			"Call a function. The body is JSON as typed, @FILE, or - for standard input.\n" +
				"The response body goes to stdout, status and id to stderr; the exit code is 1 when it did not succeed.",
		)
		.argument("<name>", "function name or id")
		.argument("[body]", "JSON, @FILE or -")
		.option("-X, --method <method>", "HTTP method", "POST")
		.option("--path <path>", "path that the handler sees", "/")
		.option("-H, --header <name: value>", "request header; may be repeated", collect)
		.option("-q, --query <name=value>", "query parameter; may be repeated", collect)
		.option("--async", "print the invocation id and do not wait")
		.option("--idempotency-key <key>", "the same key makes the same invocation, never a second one")
		.option("--delay <duration>", "start no sooner than this from now", duration)
		.option("--priority <number>", "higher starts first, -1000 to 1000", integer)
		.option("--deadline <duration>", "expire when not started, stop when still running, this long from now", duration)
		.option("--max-attempts <number>", "default: 1, with --async what the function says", integer)
		.option("--lane-key <key>", "sub-lane; the keys of a function take turns")
		.option("--tag <tag>", "label to find it by; may be repeated", collect)
		.option("--wait <duration>", "stop waiting after this long (exit code 124); default: until it ends", duration)
		.action(run(invoke));

	program
		.command("result")
		.summary("the response of an invocation, also later")
		.description("Print the response of an invocation, waiting for its end where --wait says so.")
		.argument("<id>", "invocation id")
		.option("--wait <duration>", "wait up to this long for its end", duration)
		.action(run(result));

	program
		.command("cancel")
		.summary("cancel an invocation")
		.description("Cancel an invocation: queued work never starts; running work is told, and killed after its grace.")
		.argument("<id>", "invocation id")
		.action(
			run(async (session, id: string) => {
				const answer = await session.call("invocations.cancel", { invocation_id: id });
				await session.print(answer, `${id} is ${text(answer["state"])}\n`);
			}),
		);

	program
		.command("retry")
		.summary("run an ended invocation's request again")
		.description("Make a new invocation of the same request, on the version that is active now.")
		.argument("<id>", "invocation id")
		.action(
			run(async (session, id: string) => {
				const answer = await session.call("invocations.retry", { invocation_id: id });
				await session.print(answer, `${text(answer["invocation_id"])}\n`);
			}),
		);

	program
		.command("invocations")
		.summary("list invocations, newest first")
		.description("List invocations, newest first.")
		.option("-f, --function <name>", "only of this function")
		.option("-s, --state <state>", `only in this state: ${STATES.join(", ")}`)
		.option("-n, --limit <number>", "how many", integer, LIMITS.listPageDefault)
		.option("--before <id>", "go on with what is older than this invocation")
		.action(run(list));
}

async function invoke(
	session: Session,
	name: string,
	argument: string | undefined,
	options: InvokeOptions,
): Promise<void> {
	const body = await readBody(session, argument);
	const headers = (options.header ?? []).map(parseHeader);
	if (body.contentType !== undefined && !headers.some(([header]) => header === "content-type")) {
		headers.push(["content-type", body.contentType]);
	}
	const accepted = await session.enqueue(name, {
		method: options.method.toUpperCase(),
		path: options.path,
		headers,
		query: (options.query ?? []).map(parsePair),
		body: body.bytes,
		...given("idempotencyKey", options.idempotencyKey),
		...given("delayMs", options.delay),
		...given("priority", options.priority),
		...given("deadlineMs", options.deadline),
		// A caller that waits is there to retry, so one attempt is its default, as everywhere.
		...given("maxAttempts", options.maxAttempts ?? (options.async === true ? undefined : 1)),
		...given("laneKey", options.laneKey),
		...given("tags", options.tag),
	});
	const id = text(accepted["invocation_id"]);
	if (options.async === true) {
		await session.print(accepted, `${id}\n`);
		return;
	}
	const { record, ranOut } = await awaitEnd(session, id, options.wait ?? Infinity);
	await show(session, record, ranOut);
}

/** A key only where there is a value: what is absent is for the daemon to decide. */
function given<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
	return value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}

async function result(session: Session, id: string, options: { wait?: number }): Promise<void> {
	const { record, ranOut } =
		options.wait === undefined
			? { record: await session.call("invocations.get", { invocation_id: id, with_body: true }), ranOut: false }
			: await awaitEnd(session, id, options.wait);
	await show(session, record, ranOut);
}

/**
 * Waits in pieces that the daemon allows, and through a restart of the daemon: the invocation is on disk. A daemon that
 * stays away is an error that names the id.
 */
async function awaitEnd(session: Session, id: string, waitMs: number): Promise<{ record: Wire; ranOut: boolean }> {
	const { clock } = session.host;
	const until = clock.monotonic() + waitMs;
	const advice = `it goes on; come back to it with \`bunbase result ${id} --wait 30s\`, or stop it with \`bunbase cancel ${id}\``;
	let awaySince: number | undefined;
	for (;;) {
		const timeoutMs = Math.max(0, Math.min(Math.ceil(until - clock.monotonic()), LIMITS.awaitMsMax));
		try {
			const params = { invocation_id: id, timeout_ms: timeoutMs, with_body: true };
			const record = await session.call("invocations.await", params, advice);
			awaySince = undefined;
			if (record["timed_out_waiting"] !== true) return { record, ranOut: false };
			if (clock.monotonic() >= until) return { record, ranOut: true };
		} catch (error) {
			const { code, message } = failureOf(error);
			if (code !== "DAEMON_UNREACHABLE" && code !== "SHUTTING_DOWN") throw error;
			if (awaySince === undefined) await session.tell("no daemon answers; waiting for it\n");
			awaySince ??= clock.monotonic();
			if (clock.monotonic() - awaySince > Math.min(AWAY_MS_MAX, waitMs)) {
				throw new EngineError(code, `${message}; ${id} is durable and goes on with the daemon`, {
					cause: error,
					invocationId: id,
				});
			}
		}
		// A daemon that stops answers early; a dead one does not answer. Neither is asked in a tight loop.
		await session.pause(AGAIN_MS, advice);
	}
}

/** Prints the record of an invocation and ends with its exit code. */
async function show(session: Session, record: Wire, ranOut: boolean): Promise<void> {
	const id = text(record["invocation_id"]);
	const state = text(record["state"]) as State;
	if (session.json) await session.print(withReadableBody(record), "");
	if (!isTerminal(state)) {
		if (session.json) throw new Exit(ranOut ? EXIT.waitRanOut : EXIT.conflict);
		throw ranOut
			? new EngineError("WAIT_TIMEOUT", `${id} is still ${state}`, { invocationId: id })
			: new EngineError("NO_RESPONSE", `${id} is still ${state}`, { invocationId: id });
	}
	if (state !== "succeeded") {
		if (!session.json) await session.host.stderr.write(failureText(session, record));
		throw new Exit(EXIT.functionFailed);
	}
	if (session.json) return;
	const answer = object(record["result"]);
	await writeBody(session, answer);
	if (session.verbose || session.host.stderr.isTTY) {
		const paint = painter(session.host.stderr);
		const ran = number(record["run_ms"]);
		const parts = [String(answer["status"]), ran === undefined ? undefined : durationText(ran), id];
		await session.tell(`${paint("dim", parts.filter((part) => part !== undefined).join("  "))}\n`);
	}
	if (session.verbose) await session.tell(headerText(answer));
}

function headerText(answer: Wire): string {
	return array(answer["headers"])
		.map((pair) => `${plain(array(pair).map(String).join(": "))}\n`)
		.join("");
}

/** What, why and with which stack an invocation did not succeed. */
function failureText(session: Session, record: Wire): string {
	const paint = painter(session.host.stderr);
	const error = object(record["error"]);
	const name = text(error["name"]);
	const state = text(record["state"]);
	const attempt = number(record["attempt"]) ?? 0;
	const what = `${name === "" ? "" : `${name}: `}${text(error["message"])}`;
	const stack = framesOf(text(error["stack"]));
	const id = text(record["invocation_id"]);
	return [
		`${paint(["red", "bold"], "error")}: ${text(record["function_name"])} ${state}: ${plain(what)}`,
		...(stack === "" ? [] : [paint("dim", plain(stack).trimEnd())]),
		`  why: ${text(error["code"])} in attempt ${attempt} of version ${text(record["version"])}`,
		`  try: bunbase logs ${id}; run it again with bunbase retry ${id}`,
		"",
	].join("\n");
}

/** Frames under the handler: the runtime that called it, and the engine of JavaScript below. */
const BELOW_HANDLER = /[\\/](?:src|dist)[\\/](?:runtime|protocol)[\\/]|\((?:node:|native)/;

/** The function's own frames: its message is told already, and who called it is no news. */
function framesOf(stack: string): string {
	const frames = stack.split("\n").filter((line) => /^\s+at /.test(line));
	while (BELOW_HANDLER.test(frames.at(-1) ?? "")) frames.pop();
	return frames.join("\n");
}

interface ListOptions {
	readonly function?: string;
	readonly state?: string;
	readonly limit: number;
	readonly before?: string;
}

async function list(session: Session, options: ListOptions): Promise<void> {
	const invocations = await session.list("invocations.list", "invocations", {
		function: options.function,
		state: options.state === undefined ? undefined : parseChoice("--state", STATES, options.state),
		limit: options.limit,
		before: options.before,
	});
	await session.print({ invocations }, () =>
		invocations.length === 0
			? ""
			: table(
					session.host.stdout,
					["ID", "FUNCTION", "STATE", "ATTEMPT", "SOURCE", "CREATED", "WAITED", "RAN", "ERROR"],
					invocations.map((row) => listRow(session, row)),
				),
	);
	if (invocations.length === 0) await session.tell("no invocations\n");
}

function listRow(session: Session, row: Wire): (string | number | undefined)[] {
	const waited = number(row["queue_wait_ms"]);
	const ran = number(row["run_ms"]);
	const runAt = number(row["run_at"]) ?? 0;
	const delayed = row["state"] === "queued" && runAt > session.now();
	return [
		text(row["invocation_id"]),
		text(row["function_name"]),
		delayed ? `queued (${relativeTime(runAt, session.now()) ?? ""})` : text(row["state"]),
		`${number(row["attempt"]) ?? 0}/${number(row["max_attempts"]) ?? 0}`,
		text(row["source"]),
		relativeTime(number(row["created_at"]), session.now()),
		waited === undefined ? undefined : durationText(waited),
		ran === undefined ? undefined : durationText(ran),
		text(object(row["error"])["message"]),
	];
}
