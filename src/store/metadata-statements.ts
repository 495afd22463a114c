/** Every statement on metadata.db: literal text, prepared once, named noun then verb. */
import type { Database } from "./database.ts";
import type { RawDeployment, RawEnvironment, RawFunction, RawSchedule, RawVersion } from "./metadata-rows.ts";

export type MetadataStatements = ReturnType<typeof prepareMetadataStatements>;

export interface SchedulePutParameters {
	scheduleId: string;
	/** A function's integer id. */
	fn: number;
	name: string;
	cron: string;
	timezone: string;
	misfire: string;
	overlap: string;
	origin: "module" | "api";
	/** JSON text. */
	data: string | null;
	at: number;
}

export function prepareMetadataStatements(db: Database) {
	return {
		functionList: db.prepare<[], RawFunction>("SELECT * FROM function WHERE deleted_at IS NULL ORDER BY id"),
		functionGet: db.prepare<[id: number], RawFunction>("SELECT * FROM function WHERE id = ? AND deleted_at IS NULL"),
		functionInsert: db.prepare<[functionId: string, name: string, handler: string, createdAt: number], RawFunction>(
			"INSERT INTO function (function_id, name, handler, created_at) VALUES (?, ?, ?, ?) RETURNING *",
		),
		functionSetOverrides: db.prepare<[overrides: string, id: number]>("UPDATE function SET overrides = ? WHERE id = ?"),
		functionSetPaused: db.prepare<[paused: number, id: number]>("UPDATE function SET paused = ? WHERE id = ?"),
		functionSetActive: db.prepare<[version: number, id: number]>("UPDATE function SET active_version = ? WHERE id = ?"),

		versionList: db.prepare<[], RawVersion>("SELECT * FROM version ORDER BY id"),
		versionListOfFunction: db.prepare<[fn: number], RawVersion>("SELECT * FROM version WHERE function = ? ORDER BY id"),
		versionGetByName: db.prepare<[fn: number, version: string], RawVersion>(
			"SELECT * FROM version WHERE function = ? AND version = ?",
		),
		// The first of them: bytes that were deployed twice under two names are one code with an older name.
		versionGetBySha: db.prepare<[fn: number, sha256: string], RawVersion>(
			"SELECT * FROM version WHERE function = ? AND sha256 = ? ORDER BY id LIMIT 1",
		),
		versionInsert: db.prepare<
			[fn: number, version: string, sha256: string, bytes: number, config: string, createdAt: number],
			RawVersion
		>(
			"INSERT INTO version (function, version, sha256, bytes, config, created_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
		),

		deploymentInsert: db.prepare<
			[deploymentId: string, fn: number, version: number, reason: string, deployedAt: number],
			RawDeployment
		>(
			"INSERT INTO deployment (deployment_id, function, version, reason, deployed_at) VALUES (?, ?, ?, ?, ?) RETURNING *",
		),
		deploymentList: db.prepare<[fn: number, limit: number], RawDeployment>(
			"SELECT * FROM deployment WHERE function = ? ORDER BY id DESC LIMIT ?",
		),
		deploymentGetPrevious: db.prepare<[fn: number], RawDeployment>(`
			SELECT deployment.* FROM deployment JOIN function ON function.id = deployment.function
			WHERE deployment.function = ? AND deployment.version <> function.active_version
			ORDER BY deployment.id DESC LIMIT 1`),

		environmentList: db.prepare<[], RawEnvironment>("SELECT * FROM environment ORDER BY function, name"),
		environmentListOfFunction: db.prepare<[fn: number], RawEnvironment>(
			"SELECT * FROM environment WHERE function = ? ORDER BY name",
		),
		environmentPut: db.prepare<[fn: number, name: string, value: string, updatedAt: number]>(`
			INSERT INTO environment (function, name, value, updated_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (function, name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at`),
		environmentDelete: db.prepare<[fn: number, name: string]>(
			"DELETE FROM environment WHERE function = ? AND name = ?",
		),
		environmentCountBytes: db
			.prepare<[fn: number], number>(
				"SELECT coalesce(sum(octet_length(name) + octet_length(value) + 2), 0) FROM environment WHERE function = ?",
			)
			.pluck(),

		scheduleList: db.prepare<[], RawSchedule>("SELECT * FROM schedule WHERE removed_at IS NULL ORDER BY id"),
		scheduleListOfFunction: db.prepare<[fn: number], RawSchedule>(
			"SELECT * FROM schedule WHERE function = ? AND removed_at IS NULL ORDER BY id",
		),
		scheduleGet: db.prepare<[scheduleId: string], RawSchedule>(
			"SELECT * FROM schedule WHERE schedule_id = ? AND removed_at IS NULL",
		),
		// Also removed ones: a name that comes back is the same schedule.
		scheduleGetByName: db.prepare<[fn: number, name: string], RawSchedule>(
			"SELECT * FROM schedule WHERE function = ? AND name = ?",
		),
		schedulePut: db.prepare<SchedulePutParameters, RawSchedule>(`
			INSERT INTO schedule
				(schedule_id, function, name, cron, timezone, misfire, overlap, origin, data, created_at, effective_at)
			VALUES (@scheduleId, @fn, @name, @cron, @timezone, @misfire, @overlap, @origin, @data, @at, @at)
			ON CONFLICT (function, name) DO UPDATE SET
				cron = excluded.cron, timezone = excluded.timezone, misfire = excluded.misfire, overlap = excluded.overlap,
				origin = excluded.origin, data = excluded.data, removed_at = NULL,
				paused = iif(removed_at IS NULL OR origin = 'module', paused, 0),
				effective_at = iif(removed_at IS NULL AND cron = excluded.cron AND timezone = excluded.timezone,
					effective_at, excluded.effective_at)
			RETURNING *`),
		schedulePause: db.prepare<[id: number]>("UPDATE schedule SET paused = 1 WHERE id = ?"),
		scheduleResume: db.prepare<[effectiveAt: number, id: number]>(
			"UPDATE schedule SET paused = 0, effective_at = ? WHERE id = ?",
		),
		scheduleRemove: db.prepare<[removedAt: number, id: number]>("UPDATE schedule SET removed_at = ? WHERE id = ?"),

		subscriptionList: db.prepare<[], { function: number; eventType: string }>(
			"SELECT function, event_type AS eventType FROM subscription ORDER BY event_type, function",
		),
		subscriptionDeleteOfFunction: db.prepare<[fn: number]>("DELETE FROM subscription WHERE function = ?"),
		subscriptionInsert: db.prepare<[fn: number, eventType: string]>(
			"INSERT INTO subscription (function, event_type) VALUES (?, ?) ON CONFLICT DO NOTHING",
		),
	};
}
