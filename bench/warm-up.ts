/**
 * Before anything is measured each subject serves 100 callers, because V8 compiles what runs often and a daemon runs for
 * months. Measured without it, in turns with one that was warm: 10 callers got 2,100/s in the first second and 4,500
 * after eight, 30,000 invocations later. The floor, which has less to compile, is there at once.
 */
import type { Context } from "./context.ts";
import { runDriver, type HttpDrive, type SocketDrive } from "./drive.ts";

/** Where the callers reach it. */
export type Way = Pick<SocketDrive, "kind" | "path"> | Pick<HttpDrive, "kind" | "host" | "port">;

const CALLERS = 100;
const BODY_BYTES = 64;

export async function warmUp(
	{ compileMs }: Pick<Context, "compileMs">,
	functionId: string,
	ways: readonly Way[],
): Promise<void> {
	for (const way of ways) {
		await runDriver({
			...way,
			callers: CALLERS,
			sockets: way.kind === "http" ? CALLERS : 4,
			calls: [{ functionId, bodyBytes: BODY_BYTES }],
			warmupMs: 0,
			measureMs: compileMs,
		});
	}
}
