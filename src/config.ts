/**
 * What the daemon runs with: flags > environment (BUNBASE_*) > configuration file > defaults, key by key.
 *
 * All problems are reported together, each with the place it came from. Unknown keys of the file are refused by name;
 * unknown BUNBASE_* variables are only told, because other parts of BunBase have variables of their own.
 * The answer is complete and frozen.
 */
import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { z } from "zod";
import { EngineError, messageOf } from "./core/errors.ts";
import { engineOptionsSchema, type EngineOptions } from "./core/options.ts";
import type { ServeFlags } from "./sources/cli-flags.ts";
import { parseDuration } from "./sources/cli-parse.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
/** 64 bits at the least, where each character is a hexadecimal digit. */
const TOKEN = /^[\x21-\x7e]{16,512}$/;
const FUNCTION_PAGES = ["sandboxed", "trusted"] as const;

/** sun_path of a unix socket holds 108 bytes with its closing NUL. */
const SOCKET_PATH_BYTES_MAX = 107;

const settingsSchema = engineOptionsSchema.extend({
	socket: z
		.string()
		.min(1)
		.refine((path) => Buffer.byteLength(resolve(path)) <= SOCKET_PATH_BYTES_MAX, {
			error: `expected a path of at most ${SOCKET_PATH_BYTES_MAX} bytes, which is all a unix socket can have`,
		})
		.optional(),
	/** False: no HTTP at all. 0: any free port. */
	httpPort: z
		.union([z.int().min(0).max(65_535), z.literal(false)], { error: "expected a port from 0 to 65535, or false" })
		.optional(),
	httpHost: z.string().min(1).optional(),
	httpTokenFile: z.string().min(1).optional(),
	/** Further names in the Host header, e.g. of a reverse proxy's site. */
	allowedHosts: z.array(z.string().min(1)).max(100).optional(),
	functionPages: z.enum(FUNCTION_PAGES).optional(),
	logLevel: z.enum(LOG_LEVELS).optional(),
});
type Layer = z.infer<typeof settingsSchema>;
type Key = keyof Layer;

interface HttpSettings {
	readonly host: string;
	readonly port: number;
	readonly allowedHosts: readonly string[];
	readonly functionPages: (typeof FUNCTION_PAGES)[number];
	/** Secret: told nowhere. */
	readonly tokens: readonly string[];
}

export interface Settings {
	/** For createEngine, which has the defaults of what is absent here. */
	readonly engine: EngineOptions & { readonly dataDir: string };
	readonly socket: string;
	/** Undefined where HTTP is off. */
	readonly http: HttpSettings | undefined;
	readonly logLevel: (typeof LOG_LEVELS)[number];
	/** Things to tell that do not prevent the start. */
	readonly warnings: readonly string[];
}

const text = (value: string): unknown => value;
const whole = (value: string): unknown => (/^\d+$/.test(value) ? Number(value) : value);
const port = (value: string): unknown => (value === "off" || value === "false" ? false : whole(value));
const list = (value: string): unknown => value.split(",").map((item) => item.trim());
const duration = (value: string): unknown => {
	try {
		return parseDuration(value);
	} catch {
		return value;
	}
};

/** Keys that environment variables can set, and how their text is read. `defaults` is for the file only. */
const ENVIRONMENT: Readonly<Record<string, readonly [Key, (value: string) => unknown]>> = {
	BUNBASE_DATA_DIR: ["dataDir", text],
	BUNBASE_SOCKET: ["socket", text],
	BUNBASE_HTTP_PORT: ["httpPort", port],
	BUNBASE_HTTP_HOST: ["httpHost", text],
	BUNBASE_HTTP_TOKEN_FILE: ["httpTokenFile", text],
	BUNBASE_ALLOWED_HOSTS: ["allowedHosts", list],
	BUNBASE_FUNCTION_PAGES: ["functionPages", text],
	BUNBASE_LOG_LEVEL: ["logLevel", text],
	BUNBASE_DURABILITY: ["durability", text],
	BUNBASE_FREE_BYTES_MIN: ["freeBytesMin", whole],
	BUNBASE_MAX_WORKERS_TOTAL: ["maxWorkersTotal", whole],
	BUNBASE_SPARE_WORKERS: ["spareWorkers", whole],
	BUNBASE_RESULT_RETENTION: ["resultRetentionMs", duration],
	BUNBASE_LOG_RETENTION: ["logRetentionMs", duration],
	BUNBASE_DRAIN: ["drainMs", duration],
	BUNBASE_BUN: ["bunPath", text],
};
const CONFIG_VARIABLE = "BUNBASE_CONFIG";

export function resolveSettings(
	flags: ServeFlags,
	env: Readonly<Record<string, string | undefined>>,
	fallback: { readonly dataDir: string } = { dataDir: "./data" },
): Settings {
	const problems: string[] = [];
	const warnings: string[] = [];
	const path = flags.config ?? (env[CONFIG_VARIABLE] || undefined);
	const layers = [
		check(fromFlags(flags), (key) => FLAG_NAME[key] ?? key, problems),
		check(fromEnvironment(env, warnings), (key) => VARIABLE_NAME.get(key) ?? key, problems),
		path === undefined ? {} : check(fromFile(path), (key) => `${path}: ${key}`, problems),
	];
	if (problems.length > 0) throw new EngineError("BAD_CONFIG", problems.join("; "));

	const merged: Record<string, unknown> = {};
	for (const layer of layers.toReversed()) {
		for (const [key, value] of Object.entries(layer)) if (value !== undefined) merged[key] = value;
	}
	const {
		socket,
		httpPort = 8080,
		httpHost = "127.0.0.1",
		httpTokenFile,
		allowedHosts = [],
		functionPages = "sandboxed",
		logLevel = "info",
		...engine
	} = merged as Layer;
	return Object.freeze({
		engine: Object.freeze({ ...engine, dataDir: resolve(engine.dataDir ?? fallback.dataDir) }),
		socket: resolve(socket ?? "/tmp/functions.sock"),
		http:
			httpPort === false
				? undefined
				: Object.freeze({
						host: httpHost,
						port: httpPort,
						allowedHosts,
						functionPages,
						tokens: httpTokenFile === undefined ? [] : tokensIn(resolve(httpTokenFile)),
					}),
		logLevel,
		warnings: Object.freeze(warnings),
	});
}

function check(layer: unknown, name: (key: string) => string, problems: string[]): Layer {
	const parsed = settingsSchema.safeParse(layer);
	if (parsed.success) return parsed.data;
	for (const issue of parsed.error.issues) {
		if (issue.code === "unrecognized_keys" && issue.path.length === 0) {
			const known = Object.keys(settingsSchema.shape).join(", ");
			for (const key of issue.keys) problems.push(`${name(key)}: no such key; known are ${known}`);
			continue;
		}
		const [key, ...inner] = issue.path.map(String);
		const where = key === undefined ? name("") : [name(key), ...inner].join(".");
		problems.push(`${where}: ${issue.message}`);
	}
	return {};
}

const FLAG_NAME: Readonly<Record<string, string>> = {
	dataDir: "--data-dir",
	socket: "--socket",
	httpPort: "--http-port",
	httpHost: "--http-host",
	httpTokenFile: "--http-token-file",
	logLevel: "--log-level",
	durability: "--durability",
	acceptRollback: "--accept-rollback",
};
const VARIABLE_NAME: ReadonlyMap<string, string> = new Map(
	Object.entries(ENVIRONMENT).map(([variable, [key]]) => [key, variable]),
);

function fromFlags(flags: ServeFlags): Record<string, unknown> {
	const httpPort = flags.http === false ? false : flags.httpPort === undefined ? undefined : port(flags.httpPort);
	const { dataDir, socket, httpHost, httpTokenFile, logLevel, durability, acceptRollback } = flags;
	return { dataDir, socket, httpHost, httpTokenFile, logLevel, durability, acceptRollback, httpPort };
}

/** An empty variable is an unset one. */
function fromEnvironment(
	env: Readonly<Record<string, string | undefined>>,
	warnings: string[],
): Record<string, unknown> {
	const layer: Record<string, unknown> = {};
	for (const [variable, value] of Object.entries(env)) {
		if (!variable.startsWith("BUNBASE_") || value === undefined || value === "" || variable === CONFIG_VARIABLE)
			continue;
		const known = ENVIRONMENT[variable];
		if (known === undefined) warnings.push(`the environment variable ${variable} is none of ours and changes nothing`);
		else layer[known[0]] = known[1](value);
	}
	return layer;
}

/** One on each line. What is wrong is told without showing it. */
function tokensIn(path: string): readonly string[] {
	const refuse = (why: string, cause?: unknown): never => {
		throw new EngineError("BAD_CONFIG", `the token file ${path} ${why}`, { cause });
	};
	let lines: readonly string[] = [];
	try {
		if ((statSync(path).mode & 0o077) !== 0) refuse("may be read or changed by other users; run chmod 600 on it");
		lines = readFileSync(path, "utf8").split("\n");
	} catch (cause) {
		if (cause instanceof EngineError) throw cause;
		refuse(`cannot be read: ${messageOf(cause)}`, cause);
	}
	const tokens = lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
	if (tokens.length === 0) refuse("has no token; write one with: openssl rand -hex 32");
	if (!tokens.every((token) => TOKEN.test(token))) {
		refuse("has a line that is no token; expected 16 to 512 visible ASCII characters, as of: openssl rand -hex 32");
	}
	return tokens;
}

function fromFile(path: string): unknown {
	let content: string;
	try {
		content = readFileSync(path, "utf8");
	} catch (cause) {
		throw new EngineError("BAD_CONFIG", `cannot read the configuration file ${path}: ${messageOf(cause)}`, { cause });
	}
	try {
		return JSON.parse(content) as unknown;
	} catch (cause) {
		throw new EngineError("BAD_CONFIG", `the configuration file ${path} is not JSON: ${messageOf(cause)}`, { cause });
	}
}
