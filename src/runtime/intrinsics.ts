/**
 * The globals that the runtime needs, taken before user code can replace them. A handler that overwrites `JSON`,
 * `Promise` or `Date` hurts only itself.
 */
export const {
	AbortController: OwnAbortController,
	DOMException: OwnDOMException,
	Error: OwnError,
	Headers: OwnHeaders,
	Map: OwnMap,
	Promise: OwnPromise,
	Request: OwnRequest,
	Response: OwnResponse,
	String: ownString,
	TextEncoder: OwnTextEncoder,
	Uint8Array: OwnUint8Array,
	encodeURIComponent: ownEncodeURIComponent,
	queueMicrotask: ownQueueMicrotask,
} = globalThis;
export const ownStringify = JSON.stringify;
export const ownParse = JSON.parse;
export const ownNow = Date.now;
export const ownMonotonic = performance.now.bind(performance);
export const ownIsArray = Array.isArray;
export const ownKeys = Object.keys;
export const ownKeysOf = Reflect.ownKeys;
export const ownPrototypeOf = Object.getPrototypeOf;
