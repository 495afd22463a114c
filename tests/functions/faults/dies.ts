/** Ends its own process, by path; or sleeps beside one that does. */
const ends: Record<string, () => void> = {
	"/exit": () => process.exit(3),
	"/exit-0": () => process.exit(0),
	"/abort": () => process.abort(),
	"/kill": () => process.kill(process.pid, "SIGKILL"),
	"/segv": () => process.kill(process.pid, "SIGSEGV"),
	"/term": () => process.kill(process.pid, "SIGTERM"),
};

export default async function handler(req: Request): Promise<Response> {
	const url = new URL(req.url);
	const end = ends[url.pathname];
	if (end === undefined) {
		await Bun.sleep(Number(url.searchParams.get("ms") ?? 0));
		return new Response(`${process.pid}`);
	}
	await Bun.sleep(Number(url.searchParams.get("ms") ?? 1));
	end();
	return new Promise<Response>(() => undefined);
}
