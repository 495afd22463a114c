/** Opens the database at PATH with the schemas of migrate.test.ts, and dies (SIGKILL) at the point DIE_AT. */
import { openDatabase, prepareDatabase } from "../../../src/store/database.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { kindOf } from "./migrating-kind.ts";

const [, , path = "", dieAt = ""] = process.argv;
const environment = {
	...realEnvironment,
	probe: {
		hit(point: string, id?: string): void {
			if (dieAt === point || dieAt === `${point}:${id}`) process.kill(process.pid, "SIGKILL");
		},
	},
};
const kind = kindOf(3);
const opened = openDatabase(path, kind);
prepareDatabase(opened, kind, { instanceId: "ins_x", synchronous: "FULL", environment });
opened.database.close();
