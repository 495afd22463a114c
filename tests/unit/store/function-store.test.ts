import assert from "node:assert/strict";
import { suite, test, type TestContext } from "node:test";
import {
	FunctionStore,
	type DataFolder,
	type FunctionRow,
	type ScheduleDraft,
	type VersionRow,
} from "../../../src/store/index.ts";
import { open, refusal, tempFolder } from "./support.ts";

interface Scene {
	readonly folder: DataFolder;
	readonly store: FunctionStore;
	readonly fn: FunctionRow;
	readonly versions: readonly [VersionRow, VersionRow];
	/** Makes a version (1 or 2) the active one, with these triggers. */
	readonly activate: (
		version: 1 | 2,
		schedules?: readonly ScheduleDraft[],
		events?: readonly string[],
	) => ReturnType<FunctionStore["activate"]>;
	readonly reopen: () => FunctionStore;
}

function makeScene(t: TestContext): Scene {
	const dataDir = tempFolder(t);
	const folder = open(t, dataDir);
	const store = new FunctionStore(folder.metadata);
	const fn = store.insertFunction({ functionId: "fn_a", name: "greet", handler: "default", createdAt: 1 });
	const version = (name: string, digit: string): VersionRow =>
		store.insertVersion({
			function: fn.id,
			version: name,
			sha256: digit.repeat(64),
			bytes: 3,
			config: { timeoutMs: 5 },
			createdAt: 2,
		});
	const versions = [version("v1", "1"), version("v2", "2")] as const;
	let deployments = 0;
	return {
		folder,
		store,
		fn,
		versions,
		activate(number, schedules = [], events = []) {
			deployments += 1;
			return store.activate({
				function: fn.id,
				version: versions[number - 1]?.id ?? 0,
				deploymentId: `dep_${deployments}`,
				reason: "deploy",
				at: 100 * deployments,
				schedules,
				events,
			});
		},
		reopen() {
			folder.close();
			return new FunctionStore(open(t, dataDir).metadata);
		},
	};
}

let scheduleIds = 0;
function draft(name: string, changes: Partial<ScheduleDraft> = {}): ScheduleDraft {
	scheduleIds += 1;
	return {
		scheduleId: `sch_${scheduleIds}`,
		name,
		cron: "0 * * * *",
		timezone: "UTC",
		misfire: "once",
		overlap: "skip",
		data: undefined,
		...changes,
	};
}

suite("functions and versions", () => {
	test("what was written is there after reopening, all of it", (t) => {
		const scene = makeScene(t);
		const { store, fn } = scene;
		store.setOverrides(fn.id, { concurrency: 7, retry: { retryOn: [503] } });
		store.setPaused(fn.id, true);
		store.setEnvironment(fn.id, { KEY: "wert ü", EMPTY: "" }, 9);
		scene.activate(1, [draft("nightly", { data: { a: [1] } })], ["order.created", "order.paid"]);
		const before = store.load();
		assert.deepEqual(scene.reopen().load(), before);
		assert.deepEqual(before.functions, [
			{
				id: fn.id,
				functionId: "fn_a",
				name: "greet",
				handler: "default",
				overrides: { concurrency: 7, retry: { retryOn: [503] } },
				paused: true,
				activeVersion: scene.versions[0].id,
				createdAt: 1,
			},
		]);
		assert.deepEqual(before.versions, [...scene.versions]);
		assert.deepEqual(before.versions[0]?.config, { timeoutMs: 5 });
		assert.deepEqual(before.schedules[0]?.data, { a: [1] });
		assert.deepEqual(
			before.subscriptions.map((subscription) => subscription.eventType),
			["order.created", "order.paid"],
		);
		assert.equal(before.environment.length, 2);
	});

	test("a name and an id are given once", (t) => {
		const { store } = makeScene(t);
		assert.throws(
			() => store.insertFunction({ functionId: "fn_b", name: "greet", handler: "default", createdAt: 1 }),
			refusal("STORE_ERROR", "function.name"),
		);
		assert.throws(
			() => store.insertFunction({ functionId: "fn_a", name: "other", handler: "default", createdAt: 1 }),
			refusal("STORE_ERROR", "function.function_id"),
		);
	});

	test("an integer id is never given twice, because rows of other databases refer to it", (t) => {
		const { store, folder } = makeScene(t);
		const gone = store.insertFunction({ functionId: "fn_b", name: "b", handler: "default", createdAt: 1 });
		folder.metadata.prepare("DELETE FROM function WHERE id = ?").run(gone.id);
		const next = store.insertFunction({ functionId: "fn_c", name: "c", handler: "default", createdAt: 1 });
		assert.equal(next.id, gone.id + 1);
	});

	test("an unknown function is told as such", (t) => {
		const { store } = makeScene(t);
		assert.throws(() => store.setPaused(99, true), refusal("FUNCTION_NOT_FOUND"));
		assert.throws(() => store.setOverrides(99, {}), refusal("FUNCTION_NOT_FOUND"));
	});

	test("a version with the same bytes again is the one that is there; with other bytes it is refused", (t) => {
		const { store, fn, versions } = makeScene(t);
		const again = { function: fn.id, version: "v1", bytes: 3, config: {}, createdAt: 50 };
		assert.deepEqual(store.insertVersion({ ...again, sha256: "1".repeat(64) }), versions[0]);
		assert.throws(() => store.insertVersion({ ...again, sha256: "3".repeat(64) }), refusal("VERSION_CONFLICT", "v1"));
		assert.deepEqual(store.findVersion(fn.id, "v1"), versions[0]);
		assert.deepEqual(store.findVersionBySha(fn.id, "2".repeat(64)), versions[1]);
		assert.equal(store.findVersionBySha(fn.id, "3".repeat(64)), undefined);
		assert.deepEqual(store.listVersions(fn.id), [...versions]);
	});

	test("the schema refuses a changed version and an active version of another function", (t) => {
		const { store, folder, versions } = makeScene(t);
		assert.throws(() => folder.metadata.exec("UPDATE version SET bytes = 4"), /never changes/);
		assert.throws(() => folder.metadata.exec("UPDATE version SET sha256 = sha256"), /never changes/);
		const other = store.insertFunction({ functionId: "fn_b", name: "b", handler: "default", createdAt: 1 });
		const activation = {
			function: other.id,
			version: versions[0].id,
			deploymentId: "dep_x",
			reason: "deploy",
			at: 1,
			schedules: [],
			events: [],
		} as const;
		assert.throws(() => store.activate(activation), refusal("STORE_ERROR", "FOREIGN KEY"));
		assert.deepEqual(store.listDeployments(other.id), []);
	});
});

suite("activation", () => {
	test("replaces subscriptions, and lists deployments newest first", (t) => {
		const scene = makeScene(t);
		scene.activate(1, [], ["a", "b"]);
		scene.activate(2, [], ["b", "c", "c"]);
		const { functions, subscriptions } = scene.store.load();
		assert.equal(functions[0]?.activeVersion, scene.versions[1].id);
		assert.deepEqual(
			subscriptions.map((subscription) => subscription.eventType),
			["b", "c"],
		);
		assert.deepEqual(
			scene.store.listDeployments(scene.fn.id).map((deployment) => deployment.deploymentId),
			["dep_2", "dep_1"],
		);
		assert.equal(scene.store.listDeployments(scene.fn.id, 1).length, 1);
	});

	test("the previous deployment is the last one of another version", (t) => {
		const scene = makeScene(t);
		assert.equal(scene.store.previousDeployment(scene.fn.id), undefined);
		scene.activate(1);
		scene.activate(1);
		assert.equal(scene.store.previousDeployment(scene.fn.id), undefined);
		scene.activate(2);
		assert.equal(scene.store.previousDeployment(scene.fn.id)?.version, scene.versions[0].id);
		scene.activate(1);
		assert.equal(scene.store.previousDeployment(scene.fn.id)?.version, scene.versions[1].id);
	});

	test("keeps a schedule's id and pause by its name, takes its new expression, and removes those not named", (t) => {
		const scene = makeScene(t);
		const first = scene.activate(1, [draft("keep"), draft("drop")]).schedules;
		const [keep] = first;
		assert.ok(keep !== undefined);
		scene.store.pauseSchedule(keep.scheduleId, true, 150);
		const second = scene.activate(2, [draft("new"), draft("keep", { cron: "5 * * * *", misfire: "all" })]).schedules;
		assert.deepEqual(
			second.map((schedule) => [schedule.name, schedule.cron]),
			[
				["keep", "5 * * * *"],
				["new", "0 * * * *"],
			],
		);
		assert.deepEqual(second[0], { ...keep, cron: "5 * * * *", misfire: "all", paused: true, effectiveAt: 200 });
		assert.deepEqual(scene.store.listSchedules(), second);
	});

	test("brings a schedule back as itself when a rollback names it again, counting from then", (t) => {
		const scene = makeScene(t);
		const [before] = scene.activate(1, [draft("nightly")]).schedules;
		assert.deepEqual(scene.activate(2).schedules, []);
		const [after] = scene.activate(1, [draft("nightly")]).schedules;
		assert.deepEqual(after, { ...before, effectiveAt: 300 });
		const [same] = scene.activate(1, [draft("nightly")]).schedules;
		assert.equal(same?.effectiveAt, 300, "the same expression again is no new start");
	});

	test("with a schedule name that the API has is refused, and nothing of it is kept", (t) => {
		const scene = makeScene(t);
		scene.activate(1, [draft("mine")], ["a"]);
		scene.store.putSchedule(scene.fn.id, draft("theirs"), 110);
		const before = scene.store.load();
		assert.throws(() => scene.activate(2, [draft("other"), draft("theirs")], ["b"]), refusal("BAD_CONFIG", "theirs"));
		assert.deepEqual(scene.store.load(), before);
		assert.equal(scene.store.listDeployments(scene.fn.id).length, 1);
		assert.throws(() => scene.activate(2, [draft("twice"), draft("twice")]), refusal("BAD_CONFIG", "twice"));
	});
});

suite("schedules of the API", () => {
	test("survive activations, change by name, and go away", (t) => {
		const scene = makeScene(t);
		const made = scene.store.putSchedule(scene.fn.id, draft("s", { data: null }), 10);
		assert.equal(made.data, null);
		scene.activate(1);
		const changed = scene.store.putSchedule(scene.fn.id, draft("s", { overlap: "allow" }), 20);
		assert.deepEqual(changed, { ...made, overlap: "allow", data: undefined });
		scene.store.removeSchedule(made.scheduleId, 30);
		assert.deepEqual(scene.store.listSchedules(scene.fn.id), []);
		assert.throws(() => scene.store.removeSchedule(made.scheduleId, 31), refusal("SCHEDULE_NOT_FOUND"));
		assert.throws(() => scene.store.pauseSchedule("sch_none", true, 32), refusal("SCHEDULE_NOT_FOUND", "sch_none"));
	});

	test("that were removed while paused come back running", (t) => {
		const { store, fn } = makeScene(t);
		const made = store.putSchedule(fn.id, draft("s"), 10);
		store.pauseSchedule(made.scheduleId, true, 11);
		store.removeSchedule(made.scheduleId, 12);
		assert.deepEqual(store.putSchedule(fn.id, draft("s"), 13), { ...made, effectiveAt: 13 });
	});

	test("count from their resumption", (t) => {
		const { store, fn } = makeScene(t);
		const { scheduleId } = store.putSchedule(fn.id, draft("s"), 10);
		assert.equal(store.pauseSchedule(scheduleId, true, 20).effectiveAt, 10);
		assert.equal(store.pauseSchedule(scheduleId, false, 30).effectiveAt, 30);
		assert.equal(store.pauseSchedule(scheduleId, false, 40).effectiveAt, 30);
	});

	test("cannot take or remove what is the module's", (t) => {
		const scene = makeScene(t);
		const [module] = scene.activate(1, [draft("m")]).schedules;
		assert.throws(() => scene.store.putSchedule(scene.fn.id, draft("m"), 10), refusal("BAD_CONFIG", "m"));
		assert.throws(() => scene.store.removeSchedule(module?.scheduleId ?? "", 10), refusal("BAD_CONFIG", "pause it"));
		scene.activate(2);
		assert.equal(scene.store.putSchedule(scene.fn.id, draft("m"), 10).origin, "api", "a removed name is free");
	});
});

suite("environment", () => {
	test("is set, replaced and unset by name", (t) => {
		const { store, fn } = makeScene(t);
		store.setEnvironment(fn.id, { A: "1", B: "2" }, 10);
		store.setEnvironment(fn.id, { B: "3", __proto__x: "4" }, 20);
		store.unsetEnvironment(fn.id, ["A", "NEVER_SET"]);
		assert.deepEqual(store.listEnvironment(fn.id), [
			{ function: fn.id, name: "B", value: "3", updatedAt: 20 },
			{ function: fn.id, name: "__proto__x", value: "4", updatedAt: 20 },
		]);
	});

	test("over its bound is refused whole", (t) => {
		const { store, fn } = makeScene(t);
		store.setEnvironment(fn.id, { A: "1" }, 10);
		assert.throws(
			() => store.setEnvironment(fn.id, { B: "1", C: "x".repeat(65_536) }, 11),
			refusal("BAD_CONFIG", "65536"),
		);
		assert.deepEqual(
			store.listEnvironment(fn.id).map((row) => row.name),
			["A"],
		);
	});
});
