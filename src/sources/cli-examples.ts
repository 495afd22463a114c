/** The examples that help begins with, by command; the empty name is the command itself. */

export const EXAMPLES: Readonly<Record<string, readonly (readonly [command: string, what: string])[]>> = {
	"": [
		["bunbase dev functions/", "run every function in a folder; redeploy on save"],
		["bunbase serve --data-dir ./data", "run the daemon"],
		["bunbase deploy hello.ts", "build a file and make it the active version"],
		[`bunbase invoke hello '{"name":"Ada"}'`, "call it and print its response"],
		["bunbase invoke hello --async", "queue it and print the invocation id"],
		["bunbase logs hello --follow", "see what it prints, as it happens"],
	],
	serve: [
		["bunbase serve", "data in ./data, socket /tmp/functions.sock, HTTP on 127.0.0.1:8080"],
		["bunbase serve --data-dir /var/lib/bunbase --no-http", "only the socket"],
		["bunbase serve --config bunbase.json --log-level debug", "the rest from a file"],
	],
	dev: [
		["bunbase dev", "what is in ./functions, or here"],
		["bunbase dev examples/functions/hello.ts", "one function"],
	],
	deploy: [
		["bunbase deploy hello.ts", "as function hello, next free version"],
		["bunbase deploy invoice/ --name invoice --version 2026-11-22", "a folder with an index file"],
		["bunbase deploy dist/bundle.js --name api --no-build", "a finished bundle, stored as it is"],
	],
	invoke: [
		[`bunbase invoke hello '{"name":"Ada"}'`, "POST / with a JSON body"],
		["bunbase invoke report -X GET --path /daily -q day=2026-11-22", "method, path and query"],
		["bunbase invoke resize @photo.jpg > small.jpg", "bytes in, bytes out"],
		["cat order.json | bunbase invoke order - --async --idempotency-key A-17", "queue it once, whatever happens"],
	],
	result: [["bunbase result inv_… --wait 30s", "wait for its end, then print its response"]],
	cancel: [["bunbase cancel inv_…", ""]],
	retry: [["bunbase retry inv_…", "prints the id of the new invocation"]],
	invocations: [
		["bunbase invocations --function resize --state failed", "what failed"],
		["bunbase invocations --json --limit 1000 | jq -r '.invocations[].invocation_id'", "for scripts"],
	],
	functions: [["bunbase functions --json | jq -r '.functions[].name'", "names only"]],
	register: [["bunbase register hello", ""]],
	configure: [
		["bunbase configure resize", "what is in force"],
		["bunbase configure resize concurrency=4 timeoutMs=2m retry.maxAttempts=5", "change it"],
		["bunbase configure resize concurrency=null", "take the override away"],
	],
	versions: [["bunbase versions hello", ""]],
	rollback: [
		["bunbase rollback hello", "to the version that was active before"],
		["bunbase rollback hello v3", "to this one"],
	],
	env: [
		["bunbase env set hello GREETING=Hi", ""],
		["bunbase env set hello API_KEY=- < key.txt", "a secret, out of the shell's history"],
		["bunbase env list hello", "names only; values are never shown"],
	],
	logs: [
		["bunbase logs hello --follow", "as it happens"],
		["bunbase logs inv_…", "of one invocation"],
		["bunbase logs --level error --since 1h --json", "one JSON object on each line"],
	],
	schedules: [
		["bunbase schedules list", "what fires when"],
		["bunbase schedules put report '0 9 * * 1-5' --timezone Europe/Berlin", "workdays at nine"],
		["bunbase schedules pause sch_…", ""],
	],
	events: [
		[`bunbase events emit order.created '{"orderId":"A-17"}'`, "one invocation for each subscriber"],
		["bunbase events list", ""],
	],
	lanes: [
		["bunbase lanes list", "what runs, what waits, and why"],
		["bunbase lanes pause resize", "accept, but start nothing"],
	],
	workers: [["bunbase workers", ""]],
	stats: [["bunbase stats --json | jq .queued", ""]],
	version: [["bunbase version", ""]],
	doctor: [
		["bunbase doctor", "the daemon on the socket, else the folder ./data"],
		["bunbase doctor --data-dir /var/lib/bunbase --full", "every byte of it"],
		["bunbase doctor --fix", "modes, leftovers, torn log lines; never a row"],
	],
	backup: [
		["bunbase backup /backup/bunbase-$(date +%F)", "while the daemon runs, or without one"],
		["bunbase backup /backup/one --json | jq .seq", ""],
	],
	restore: [
		["bunbase restore /backup/bunbase-2026-11-22 --data-dir /var/lib/bunbase-2", "then: bunbase serve --data-dir …"],
	],
};

export function examplesText(command: string): string {
	const examples = EXAMPLES[command];
	if (examples === undefined) return "";
	const width = Math.max(...examples.map(([line]) => line.length));
	const lines = examples.map(([line, what]) => (what === "" ? `  ${line}` : `  ${line.padEnd(width)}  # ${what}`));
	return `Examples:\n${lines.join("\n")}\n`;
}
