/** `node tests/failure/harness/judge.ts FILE…`: judges stored histories again. Exit 1 where something was found. */
import { check, describeClasses, report } from "./checker.ts";
import { loadHistory } from "./history.ts";

let found = false;
for (const path of process.argv.slice(2)) {
	const lines = loadHistory(path);
	const verdict = check(lines);
	found ||= verdict.findings.length > 0;
	console.log(
		verdict.findings.length > 0 ? report(lines, verdict) : `${path}: ${describeClasses(verdict)}; nothing found`,
	);
}
process.exit(found ? 1 : 0);
