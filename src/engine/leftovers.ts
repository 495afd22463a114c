/**
 * What workers, builds and half written bundles left in the data folder's tmp. For the two moments at which nobody works
 * there, under the folder's lock: at boot when the workers of an earlier run are proven gone, because six kills under
 * load left 43 folders; and at the stop when our own have ended, because their folders' removal would be cut short by
 * the end of the process.
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Environment } from "../core/environment.ts";
import { messageOf } from "../core/errors.ts";

/** Resolves when they are gone. What cannot be removed costs space only, so it is said and left. */
export async function removeLeftovers(tmp: string, environment: Environment): Promise<void> {
	const removals = (await readdir(tmp)).map(async (name) => {
		const path = join(tmp, name);
		try {
			// Again where the removal that follows a worker's end is at it too.
			await rm(path, { recursive: true, force: true, maxRetries: 3 });
		} catch (error) {
			environment.logger.warn({ path, error: messageOf(error) }, "a temporary folder cannot be removed");
		}
	});
	await Promise.all(removals);
}
