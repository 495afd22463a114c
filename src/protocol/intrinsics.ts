/**
 * What the worker channel needs of JavaScript, taken before user code runs.
 *
 * User code shares the worker's process and may replace globals and their methods. So nothing here is looked up later: methods
 * are called by `apply`, and the channel uses no iterator, no `subarray` and no `push`, because those can be replaced
 * too. One that came through would make garbage of the frames of every later call. (The runtime has its own list, because it
 * needs others and this folder is no shelf: runtime/intrinsics.ts.)
 */
// oxlint-disable typescript/unbound-method -- for that reason
export const { apply } = Reflect;
export const { parse, stringify } = JSON;
export const { isArray } = Array;
export const { isFinite, isInteger } = Number;
export const { max, min } = Math;
export const { has } = Set.prototype;
export const OwnBytes = Uint8Array;
export const OwnNumbers = Uint32Array;
export const OwnBuffer = ArrayBuffer;
export const { set } = Uint8Array.prototype;
export const { encodeInto } = TextEncoder.prototype;
export const { decode } = TextDecoder.prototype;
export const { slice } = String.prototype;
export const [bufferOf, offsetOf, sizeOf] = [
	bytesGetter("buffer"),
	bytesGetter("byteOffset"),
	bytesGetter("byteLength"),
];

function bytesGetter<Name extends "buffer" | "byteOffset" | "byteLength">(
	name: Name,
): (this: Uint8Array) => Uint8Array[Name] {
	const { get } = Reflect.getOwnPropertyDescriptor(Reflect.getPrototypeOf(Uint8Array.prototype) as object, name) ?? {};
	if (get === undefined) throw new Error(`a Uint8Array has no ${name}`);
	return get as (this: Uint8Array) => Uint8Array[Name];
}
