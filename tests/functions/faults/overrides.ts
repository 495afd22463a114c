/**
 * Replaces one global, or one method of one, and puts it back: `/spoil?target=Array.prototype.push&how=throw`.
 * What it needs itself is taken before. `/targets` lists what there is to replace.
 */
// oxlint-disable typescript/unbound-method -- they are taken to be called by apply
import { AsyncLocalStorage } from "node:async_hooks";

interface Context {
	readonly log: { info(message: string): void };
}

const { defineProperty, deleteProperty, getOwnPropertyDescriptor, ownKeys, apply } = Reflect;
const { stringify } = JSON;

const iteratorOf = (value: Iterable<unknown>): object => Object.getPrototypeOf(value[Symbol.iterator]()) as object;

const objects: Record<string, object> = {
	globalThis,
	JSON,
	Reflect,
	Math,
	performance,
	console,
	process,
	Bun,
	TypedArray: Object.getPrototypeOf(Uint8Array) as object,
	ArrayIterator: iteratorOf([]),
	MapIterator: iteratorOf(new Map()),
	Generator: Object.getPrototypeOf(function* () {}.prototype) as object,
	AsyncFunction: Object.getPrototypeOf(async () => undefined) as object,
	Console: Object.getPrototypeOf(console) as object,
	EventEmitter: Object.getPrototypeOf(Object.getPrototypeOf(process)) as object,
	AsyncLocalStorage,
};
for (const name of [
	"Object,Function,Array,String,Number,Boolean,Symbol,BigInt,Promise,Map,Set,WeakMap,WeakRef,Date,RegExp,Error,TypeError",
	"ArrayBuffer,Uint8Array,DataView,TextEncoder,TextDecoder,Headers,Request,Response,AbortController,AbortSignal,Event",
	"EventTarget,DOMException,URL,URLSearchParams,ReadableStream,ReadableStreamDefaultReader,Buffer,Blob,Iterator",
]
	.join(",")
	.split(","))
	objects[name] = (globalThis as unknown as Record<string, object>)[name] ?? {};

interface Target {
	readonly holder: object;
	readonly key: string | symbol;
	/** Undefined where there was none. */
	readonly before: PropertyDescriptor | undefined;
}

/** A descriptor to which all objects' properties do not belong. */
function bare(descriptor: PropertyDescriptor | undefined): PropertyDescriptor | undefined {
	return descriptor === undefined ? undefined : (Object.setPrototypeOf(descriptor, null) as PropertyDescriptor);
}

const targets = new Map<string, Target>();
for (const [name, object] of Object.entries(objects)) {
	const { prototype } = object as { prototype?: object };
	for (const [path, holder] of [
		[name, object],
		[`${name}.prototype`, prototype],
	] as const) {
		if (typeof holder !== "object" && typeof holder !== "function") continue;
		if (holder === null) continue;
		for (const key of ownKeys(holder)) {
			const before = bare(getOwnPropertyDescriptor(holder, key));
			if (before === undefined || (before.configurable !== true && before.writable !== true)) continue;
			targets.set(`${path}.${String(key)}`, { holder, key, before });
		}
	}
}
// What every object has then, as an old library's toJSON did.
for (const key of "toJSON,then,call,type,status,headers,body,signal,method,get,set,value,message,metadata,0".split(
	",",
)) {
	targets.set(`new Object.prototype.${key}`, { holder: Object.prototype, key, before: undefined });
	targets.set(`new Array.prototype.${key}`, { holder: Array.prototype, key, before: undefined });
}

const find = Map.prototype.get;
const OwnError = Error;
let spoiled: Target | undefined;

const broken: Record<string, (this: unknown) => unknown> = {
	throw() {
		throw new OwnError("replaced by user code");
	},
	nothing: () => undefined,
};

/**
 * One at a time: the one before may still be there, where the timer of `/spoil-later` rang after its `/restore`. Without its
 * `then` and its `constructor` no Promise can be awaited.
 */
function spoil(target: Target, how: string): void {
	restore();
	const value = broken[how];
	const { before, holder, key } = target;
	spoiled = target;
	if (before === undefined) {
		defineProperty(holder, key, { __proto__: null, value, configurable: true, writable: true } as PropertyDescriptor);
		return;
	}
	const { configurable, enumerable, get, writable } = before;
	const replaced =
		configurable !== true
			? { __proto__: null, value }
			: get === undefined
				? { __proto__: null, configurable, enumerable, writable, value }
				: { __proto__: null, configurable, enumerable, get: value };
	defineProperty(holder, key, replaced as PropertyDescriptor);
}

function restore(): void {
	if (spoiled === undefined) return;
	const { before, holder, key } = spoiled;
	if (before === undefined) deleteProperty(holder, key);
	else if (before.configurable === true) defineProperty(holder, key, before);
	else defineProperty(holder, key, { __proto__: null, value: before.value as unknown } as PropertyDescriptor);
	spoiled = undefined;
}

/** Made before anything is replaced; each can be given once. */
const ready = Array.from({ length: 20_000 }, (_, i) =>
	i % 2 === 0 ? new Response("fine") : new Response(new Blob(["fine"]).stream()),
);
let given = -1;
const BASE = "http://overrides.function.internal";
const OwnURL = URL;
const later = setTimeout;
const print = console.log;

export default function handler(req: Request, ctx: Context): Response | Promise<Response> | undefined {
	const { url } = req;
	given += 1;
	const answer = ready[given];
	if (url === `${BASE}/check`) return answer;
	if (url === `${BASE}/logs`) {
		print("printed");
		ctx.log.info("logged");
		return answer;
	}
	if (url === `${BASE}/restore`) {
		restore();
		return answer;
	}
	if (url === `${BASE}/targets`) return new Response(stringify([...targets.keys()]));
	const { searchParams, pathname } = new OwnURL(url);
	const target = apply(find, targets, [searchParams.get("target")]) as Target | undefined;
	if (target === undefined) throw new OwnError("no such target");
	const how = searchParams.get("how") ?? "throw";
	if (pathname === "/spoil") spoil(target, how);
	else later(spoil, 1, target, how);
	return answer;
}
