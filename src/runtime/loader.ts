/** Imports the bundle once, finds the handler in it and reads its `config`. */
import { OwnError, ownParse, ownStringify } from "./intrinsics.ts";
import { describeThrown, describeValue } from "./text.ts";

export type Handler = (request: Request, context: unknown) => unknown;

export interface Loaded {
	readonly handler: Handler;
	/** The exported `config` as plain JSON; undefined where there is none. */
	readonly config: unknown;
}

/** `name` is an export, or a property of a default export that is an object. Throws with a sentence for the author. */
export async function loadBundle(url: string, name: string, configBytesMax: number): Promise<Loaded> {
	const module = (await import(url)) as Record<string, unknown>;
	return { handler: findHandler(module, name), config: readConfig(module["config"], configBytesMax) };
}

function findHandler(module: Record<string, unknown>, name: string): Handler {
	const found = module[name] ?? (name === "default" ? undefined : module["default"]);
	if (typeof found === "function") return found as Handler;
	if (typeof found === "object" && found !== null) {
		const { fetch } = found as { fetch?: unknown };
		if (typeof fetch === "function") return (request, context) => (fetch as Handler).call(found, request, context);
	}
	const names = Object.keys(module);
	const exported = names.length === 0 ? "it exports nothing" : `it exports ${names.slice(0, 10).join(", ")}`;
	const what =
		found === undefined ? `no export "${name}" (${exported})` : `"${name}", but that is ${describeValue(found)}`;
	throw new OwnError(
		`the bundle has ${what}; export a function (request) => Response, or an object with fetch, e.g. export default (request) => new Response("hello")`,
	);
}

function readConfig(config: unknown, bytesMax: number): unknown {
	if (config === undefined) return undefined;
	let text: string | undefined;
	try {
		text = ownStringify(config) as string | undefined;
	} catch (thrown) {
		throw new OwnError(`the exported config cannot be written as JSON: ${describeThrown(thrown, 512).message}`);
	}
	if (text === undefined) throw new OwnError(`the exported config is ${describeValue(config)}; export a plain object`);
	if (text.length > bytesMax) {
		throw new OwnError(`the exported config has ${text.length} characters; at most ${bytesMax} are possible`);
	}
	return ownParse(text) as unknown;
}
