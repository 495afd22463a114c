/**
 * From a request to something that can be committed: the function it names, its active version (pinned here), and
 * the checks that need them.
 */
import { EngineError } from "../core/errors.ts";
import { checkInvokeRequest, type InvokeRequest } from "../core/request.ts";
import type { Submission } from "../queue/index.ts";
import type { Registry } from "./registry.ts";

/** Throws FUNCTION_NOT_FOUND, NOT_DEPLOYED, BODY_TOO_LARGE or BAD_REQUEST. */
export function resolveRequest(registry: Registry, request: InvokeRequest, origin: string | null = null): Submission {
	const entry = registry.resolve(request.function);
	const active = entry.active;
	if (active === undefined) {
		throw new EngineError(
			"NOT_DEPLOYED",
			`function ${entry.name} has no active version; deploy one with: bunbase deploy FILE --name ${entry.name}`,
		);
	}
	checkInvokeRequest(request);
	const { config } = active.spec;
	if (request.body.byteLength > config.maxBodyBytes) {
		throw new EngineError(
			"BODY_TOO_LARGE",
			`the body has ${request.body.byteLength} bytes; function ${entry.name} takes at most ${config.maxBodyBytes} (maxBodyBytes)`,
		);
	}
	return { lane: entry.lane, version: active.id, config, request, origin };
}
