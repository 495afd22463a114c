#!/usr/bin/env node
// The `bunbase` command. This file must load on any Node, to say which Node is needed: no static imports and only
// old syntax here. Everything else comes in behind the check.
const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
	process.stderr.write(
		"bunbase needs Node 24 or newer, and this is Node " +
			process.versions.node +
			": install one beside it (npm install node@24, or nvm install 24) and run bunbase with that.\n",
	);
	process.exitCode = 78;
} else {
	import("./command.ts").then(
		function (command) {
			return command.main();
		},
		function (error) {
			process.stderr.write("bunbase could not load: " + String((error && error.stack) || error) + "\n");
			process.exitCode = 78;
		},
	);
}
