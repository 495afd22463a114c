/** A claim whose attempt cannot be sent ends, and stands in nobody's way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Environment } from "../../../src/core/environment.ts";
import { silentLogger, silentProbe } from "../../../src/core/environment.ts";
import type { Outcome } from "../../../src/core/invocation.ts";
import { Dispatcher } from "../../../src/engine/dispatcher.ts";
import type { Registry } from "../../../src/engine/registry.ts";
import type { Claim, Queue } from "../../../src/queue/index.ts";
import { createFakeClock } from "../../support/fake-clock.ts";

test("of two claims of one commit the first cannot be sent: it fails with INTERNAL, the second runs", () => {
	const environment: Environment = {
		clock: createFakeClock(),
		random: { next: () => 0.5 },
		probe: silentProbe,
		logger: silentLogger,
	};
	const sent: string[] = [];
	const settled: [string, Outcome][] = [];
	const dispatcher = new Dispatcher({
		environment,
		registry: { versionById: () => ({ spec: { config: { timeoutMs: 1_000 } } }) } as unknown as Registry,
		pool: {
			blocked: () => undefined,
			reserve: () => undefined,
			run(_slot, { invocationId }) {
				if (invocationId === "first") throw new RangeError("no memory");
				sent.push(invocationId);
			},
		},
		queue: () =>
			({
				settle: (claim: Claim, outcome: Outcome) => void settled.push([claim.invocationId, outcome]),
			}) as unknown as Queue,
	});
	dispatcher.send(["first", "second"].map((invocationId) => ({ invocationId, deadlineAt: null }) as Claim));
	assert.deepEqual(sent, ["second"]);
	const error = { code: "INTERNAL", message: "the attempt could not be sent: no memory" };
	assert.deepEqual(settled, [["first", { kind: "failed", error }]]);
});
