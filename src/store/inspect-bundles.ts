/** Whether every version has its bundle with the bytes that its row says, and every bundle its version. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { damage, note, ok, type Diagnosis } from "../core/diagnosis.ts";
import { messageOf } from "../core/errors.ts";
import { hashFile } from "./backup-manifest.ts";
import type { Database } from "./database.ts";
import { errnoOf } from "./store-errors.ts";

const DEPLOY_ADVICE =
	"restore the file from a backup, or deploy the function again under a new version; work that is pinned to this version waits until it is replaced";

export interface BundleOfVersion {
	readonly functionId: string;
	readonly version: string;
	readonly sha256: string;
	readonly bytes: number;
}

export function bundlesOf(metadata: Database): BundleOfVersion[] {
	return metadata
		.prepare<[], BundleOfVersion>(
			`SELECT function.function_id AS functionId, version.version, version.sha256, version.bytes
			FROM version JOIN function ON function.id = version.function ORDER BY version.id`,
		)
		.all();
}

/** `remove`: no daemon runs, so a folder without a row is of a deploy that was cut short, not of one under way. */
export async function inspectBundles(
	bundles: string,
	versions: readonly BundleOfVersion[],
	remove: boolean,
): Promise<Diagnosis[]> {
	const findings: Diagnosis[] = [];
	for (const { functionId, version, sha256 } of versions) {
		const shown = `bundle of ${functionId} ${version}`;
		try {
			const found = await hashFile(join(bundles, functionId, version, "bundle.js"));
			if (found.sha256 === sha256) continue;
			const message = `the ${shown} is damaged: SHA-256 ${found.sha256.slice(0, 12)}…, expected ${sha256.slice(0, 12)}…`;
			findings.push(damage("bundles", "DATA_CORRUPT", message, DEPLOY_ADVICE));
		} catch (error) {
			const missing = errnoOf(error) === "ENOENT";
			findings.push(
				missing
					? damage("bundles", "DATA_MISSING", `the ${shown} is missing`, DEPLOY_ADVICE)
					: damage("bundles", "IO_ERROR", `the ${shown} cannot be read: ${messageOf(error)}`, DEPLOY_ADVICE),
			);
		}
	}
	if (findings.length === 0)
		findings.push(ok("bundles", `${versions.length} versions have their bundles, with their SHA-256`));
	const known = new Set(versions.map(({ functionId, version }) => join(functionId, version)));
	for (const folder of foldersOf(bundles)) {
		if (known.has(folder)) continue;
		const path = join(bundles, folder);
		const message = `${path} belongs to no version: a deploy was cut short, or is under way`;
		findings.push(
			note("bundles", message, remove ? { advice: "the next start removes it", repair: { kind: "remove", path } } : {}),
		);
	}
	return findings;
}

function foldersOf(bundles: string): string[] {
	const inner = (folder: string): string[] => {
		try {
			return readdirSync(folder, { withFileTypes: true })
				.filter((entry) => entry.isDirectory())
				.map(({ name }) => name);
		} catch {
			return [];
		}
	};
	return inner(bundles).flatMap((functionId) =>
		inner(join(bundles, functionId)).map((version) => join(functionId, version)),
	);
}
