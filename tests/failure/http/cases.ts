/** The http cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const HTTP: readonly FaultCase[] = [
	{
		id: "F1",
		what: "Requests that two parsers read differently: Content-Length beside Transfer-Encoding, lengths that repeat or are no number, LF or CR alone, folded lines, a space before the colon, NUL, bad chunk sizes",
		injection:
			"33 requests over raw sockets, each with a second request behind it, and seeded mutations of good ones; the daemon's count of accepted work tells what ran",
		holds:
			"400 and the connection closes; the request behind never runs; each answer stands for its own request: what ran was answered, what was refused did not run",
		bugs: [
			"broken bytes behind a whole pipelined request: Node wrote its 400 at once, in place of the answer of the request that ran, fixed in HTTP: broken bytes never answer for the request before them",
			"a request behind one that was refused with its body still on the way ran, and nobody was told, fixed in the same; SEED=681764300",
		],
	},
	{
		id: "F2",
		what: "Requests that Node's parser lets through: two Host headers, none, no version, HTTP/1.0, an absolute target, a fragment, %00, a body with GET; upgrades and tunnels; dot segments",
		injection: "Raw sockets",
		holds:
			"400 and the connection closes, nothing is queued; an upgrade is ignored, CONNECT is closed; a path goes as it came to the function of its first segment",
	},
	{
		id: "F3",
		what: "Clients that stop in the middle, or send a byte a second",
		injection:
			"200 (long: 1,000) connections that stop after nothing, half a line, half a header, half a body, half a chunk, an answer; the long form waits until each is cut",
		holds: "others are answered as before; each is cut with 408 after 10 s (head), 60 s (whole request) or 5 s (idle)",
	},
	{
		id: "F4",
		what: "Too much of everything: heads, headers, targets, bodies without a length, one-byte chunks, chunk extensions, trailers, gzip bombs, bodies behind a 413, pipelined requests",
		injection: "Raw sockets; the daemon's resident memory is sampled while they send",
		holds: "431, 413 or 400, nothing is queued, and memory stays within 64 MiB of what it was",
		bugs: [
			"a body of 6,000,000 one-byte chunks, within its limit: 2.6 GB resident and 19 s, one Buffer kept for each; now 20 MB, fixed in HTTP: a body of one-byte chunks is gathered as it comes",
			"100,000 pipelined requests of one client that reads nothing: 530 MB and 100,000 rows, fixed in HTTP: requests of a connection wait in their turn in one place",
		],
		notCovered: [
			"bodies of many connections at once have no common bound: 1,000 uploads of 6 MiB at the same time take 6 GB",
		],
	},
	{
		id: "F5",
		what: "Names that are paths, devices, options, prototypes, markup, SQL, control or direction characters, or too long",
		injection:
			"A list of 44 and generated ones as function, version, event type, schedule, lane key, tag, idempotency key and variable, over HTTP, socket and command line; then every file name in the data folder",
		holds: "taken exactly where the rule for its kind allows it, else the documented refusal; files are named by ids",
		bugs: [
			"a variable called __proto__: answered 200 and dropped, because zod's records leave that key out, fixed in A key __proto__ in variables or overrides is refused",
		],
	},
	{
		id: "F6",
		what: "Deployments of paths that are no source: pipes, sockets, devices, loops of links, 10 GB sparse files, NUL, names too long, folders of 10,000 files, links that change, sources that import a huge file",
		injection: "Made in a folder and deployed over HTTP, with and without a build",
		holds: "422 within bounds, no file is left; a version keeps the bytes that it was deployed with",
		bugs: [
			"a path with NUL, a loop of links, a name too long: 500 INTERNAL, an exception of stat, fixed in Deploy: only regular files are read",
			"a sparse source of 10 GB, or one that imports such a file: the bundler grew without a bound (4 GB in 5 s), fixed in the same: it ends at 2 GiB",
		],
		notCovered: ["archives: there are none, a deployment names a file or folder of the daemon's machine"],
	},
	{
		id: "F7",
		what: "DNS rebinding: a page whose own name answers our address",
		injection:
			"Raw requests with 32 values of Host, as same-origin to the browser, and seeded near misses of allowed names",
		holds: "421 for every path and method, nothing changes, unless the name is local or in allowedHosts",
	},
	{
		id: "F8",
		what: "Cross-site requests: forms, JSON as text/plain, beacons, opaque origins, other ports, method overrides",
		injection: "Raw requests as browsers write them, to 11 routes that change something",
		holds:
			"403 for unsafe methods unless Sec-Fetch-Site is same-origin or none, or else Origin names the host; nothing changed",
		notCovered: ["a real browser: none is part of the tests"],
	},
	{
		id: "F9",
		what: "Reading from another site: preflights, log streams, WebSockets",
		injection: "Raw requests with Origin of another site to every route",
		holds: "no CORS header that a handler did not set itself; preflights to the API are 405; no protocol is switched",
	},
	{
		id: "F10",
		what: "Callers that nobody knows: no token, a wrong one, one in the wrong place, a token file that others may read",
		injection:
			"16 ways to bring no token to 10 paths; starts with addresses that are not loopback; connections to this machine's other addresses; token files of every fault",
		holds:
			"without tokens the daemon listens on loopback only, else it does not start (exit 78); with tokens all but health is 401; a token is in no answer, log, row or handler",
		notCovered: [
			"logins and sessions: there are none",
			"that comparing takes constant time is by construction (digests, timingSafeEqual), not measured",
			"without a token every process of the machine may call the HTTP API, whatever its user",
		],
	},
	{
		id: "F11",
		what: "Scripts in what functions answer and in what we repeat: names, paths, errors, logs",
		injection: "A function that answers any bytes as any type; markup in every place that a refusal repeats",
		holds:
			"what a browser could run as a page is sandboxed into an origin of its own, whose requests are refused as cross-site; our own answers are JSON or text with nosniff and may load nothing",
		bugs: [
			"a function that repeats its caller's text as HTML gave any website the API, because both have one origin, fixed in HTTP: a page that a function answers is sandboxed",
		],
		notCovered: ["a real browser: none is part of the tests", "CSV formulas: the engine writes no CSV"],
	},
	{
		id: "F12",
		what: "Secrets: variables of functions, the daemon's own environment, what callers send in bodies, headers and queries",
		injection:
			"Canaries in all of them; failed loads, crashes, refusals, broken requests; then a search through every answer, list, log, metric, file, argument list and environment of processes",
		holds:
			"I15: a variable is in metadata.db (0600) and its own function's process only, a payload in queue.db only, the daemon's environment in no worker; a removed variable is gone from the file after a stop",
		bugs: [
			"a variable that was unset or replaced could be read in metadata.db for ever, fixed in Store: removed variables are overwritten",
		],
		notCovered: [
			"what a function itself prints or throws: it is kept as it is, secrets too",
			"payloads that retention removed stay readable in queue.db until their pages are used again",
			"core dumps: the limit is the shell's",
		],
	},
	{
		id: "F13",
		what: "Other users of the machine, a umask of 000, modes that a backup brought back, links and files in the place of ours",
		injection:
			"The daemon under umask 000; every path tried as another user with setpriv; modes opened while it was away; links planted for the socket and the databases",
		holds:
			"folders 0700, files 0600 or less, WAL and socket too; EACCES for others; what is not ours is refused and left as it is",
		bugs: [
			"a queue.db of mode 0666 got a WAL and shm that anybody could read, fixed in Store: WAL and shm are made private with their database",
		],
		notCovered: ["a data folder that belongs to another user: who owns it may always replace what is in it"],
	},
	{
		id: "F14",
		what: "Webhooks: signatures, timestamps, replays",
		injection: "None",
		holds: "nothing to hold",
		notCovered: ["the engine has no webhooks"],
	},
	{
		id: "F15",
		what: "Idempotency keys: the same request and others under one key, a hundred at once, kill -9, the end of their time, odd keys",
		injection: "HTTP and socket in every order; the 24 h by a clock that the test moves; raw headers for the keys",
		holds:
			"I13: one invocation for a key for 24 h to the millisecond; another request under it is 422 and queues nothing",
	},
	{
		id: "F16",
		what: "Input that makes a parser slow",
		injection:
			"100 KB of each of 60 patterns and of seeded mixtures to 26 parsers, each compared with a plain walk over the same text; 500 KB of nonsense to the routes that parse",
		holds: "never over 2,000 times the walk (a quadratic one takes over 10,000), and no refusal repeats what was sent",
		bugs: [
			"100 KB of `ESC ]` in a log line: 9 s in stripVTControlCharacters; 100 KB of spaces in a table cell: 14 s, fixed in CLI: text of functions is made harmless in linear time",
			"an unknown key or time zone of 500 KB came back whole in the refusal, fixed in Refusals tell a bounded part of what was sent",
		],
	},
	{
		id: "F17",
		what: "JSON that parsers disagree about: repeated keys, __proto__, 1e999, lone surrogates, a BOM, bytes that are no UTF-8, 100,000 deep, 1,000,000 keys",
		injection: "A corpus of 28 through HTTP, socket and command line; ten bodies that aim at prototypes",
		holds:
			"the same result on each face or BAD_JSON, never a crash; no prototype is reached, and such a key is refused",
		bugs: [
			"__proto__ inside an override's retry: answered 200 without an effect, it became the prototype of the merged object, fixed in A key __proto__ inside an override's retry is refused",
		],
	},
	{
		id: "F18",
		what: "What the command line writes: escape sequences of functions, C1 and direction characters, colours, readers that go away, full disks, arguments that look like options",
		injection: "`script` as a terminal, bash pipes, /dev/full",
		holds:
			"on a terminal nothing moves it but our own colours; pipes get the bytes; a reader that goes away ends it with 0 or 141 and no word; output that is lost ends it with 74",
		bugs: [
			"U+009B and direction characters in JSON and in a log line's fields reached the terminal, fixed in CLI: text of functions is made harmless in linear time",
			"output to a full disk was lost with exit code 0, fixed in CLI: output that cannot be written ends with 74",
		],
	},
];
