/** The protocol cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const PROTOCOL: readonly FaultCase[] = [
	{
		id: "E1",
		what: "Broken frames: garbage, flipped bits, cut ones, lengths of 0 to 12, over 16 MiB and 4 GiB, payload lengths that do not fit, unknown commands, odd JSON, ids that repeat, split anywhere or byte by byte",
		injection:
			"20,000 (long: a million) generated frames against the decoder and the connection in this process, 3,000 (long: 30,000) against a real daemon over its socket; 200 (long: 1,000) connections whose first length claims 16 MiB or 4 GiB",
		holds:
			"no crash; each whole frame has one answer with its id and a documented code, a broken one BAD_FRAME where its id came; only that connection closes; memory follows what has arrived, not what is claimed",
	},
	{
		id: "E2",
		what: "Clients that say nothing, send a byte at a time, never read, or ask for 7 GB in one write",
		injection:
			"150 (long: 1,500) silent or half-said connections, 20 at a byte each 5 ms (long: 1 s); 100 calls with 1 MiB each that nobody reads; 900 requests for a result of 6 MiB in 64 KiB",
		holds:
			"others are answered all the while; who does not read is disconnected at 64 MiB, his work is done; memory stays bounded; a stop does not wait for them",
		bugs: [
			"900 GETs of 6 MiB results in one write ended the daemon (heap out of memory), or took 5.6 GB and 46 s of its loop: all were read before the first answer was counted, fixed in Socket: requests that read are served one by one",
		],
		notCovered: [
			"a silent connection is never closed: clients may keep one open for as long as they like, and each costs some KB",
			"the bound is one for each connection: a hundred that do not read may hold 64 MiB each",
		],
	},
	{
		id: "E3",
		what: "Clients that send and are gone before the answer, with whole and half frames",
		injection:
			"300 (long: 10,000) INVOKEs and ENQUEUEs with keys, ended, cut or destroyed at a random time; then each again",
		holds: "one invocation for each key, run once; half a frame makes none",
	},
	{
		id: "E4",
		what: "10,000 idle and 1,000 active connections (in small 500 and 50)",
		injection: "Real daemon; clients try again on EAGAIN, which says that the backlog is full",
		holds: "at most 16 KiB for each idle one; p99 of the active as without them; every descriptor is given back",
	},
	{
		id: "E5",
		what: "No descriptor is left",
		injection: "prlimit --nofile five above what the daemon holds, and forty who knock; then as before",
		holds:
			"connections that are there are served and commits go on; work that needs a new worker waits, a build is refused with a code; with descriptors again all goes on by itself",
		bugs: [
			"a daemon out of descriptors ended when it started a worker: the spawn threw before anybody listened to the child's error, fixed in Pool: a daemon that is out of descriptors no longer ends",
			"a build out of descriptors answered INTERNAL, because the removal of its folder failed, fixed in the same",
		],
	},
	{
		id: "E6",
		what: "What stands where the socket should be: a dead daemon's socket, a live one, somebody else's, a file, a folder, links, a path too long, a folder that is missing or open to all",
		injection:
			"Made in a folder; the socket source (long: the daemon too) is started on it; as another user where the test is root",
		holds:
			"a dead daemon's socket is replaced; everything else is refused in words with exit 78 or 69, and stays as it was",
		bugs: [
			"a folder in which anybody may replace files was taken: another program could have put its socket in place of ours, fixed in Socket: a folder in which anybody may replace files is refused",
		],
	},
	{
		id: "E7",
		what: "50 daemons (in small 4) start at once on one data folder, with one socket and with one each; second daemons later",
		injection: "Spawned together",
		holds: "exactly one is up and undisturbed; the others exit 69 and name its pid",
		bugs: [
			"who lost the race was told of 'another process', because the winner said who it is only when it was up, fixed in A second daemon is told the first one's pid",
		],
	},
	{
		id: "E8",
		what: "Clients and daemons of different releases; unknown commands, operations, fields and versions",
		injection:
			"A conversation of each release, kept byte for byte: its requests against this daemon, its answers against this client; all 241 unknown commands; daemons that know no HELLO, come from the future, or speak HTTP",
		holds: "every field that was promised is there as it was; what nobody knows is refused with its documented code",
		notCovered: ["one release so far: the conversation of 0.1.0"],
	},
	{
		id: "E9",
		what: "500 (long: 5,000) who wait for one invocation; waits over kill -9 and restart, for an id past retention, abandoned and run out",
		injection:
			"Raw clients on ten connections, before, at and after the end; ours over the restart; a moved clock for retention",
		holds: "all are told the same end, word for word; the daemon counts no waiter afterwards, and has not grown",
	},
	{
		id: "E10",
		what: "Workers that say broken, impossible, repeated or somebody else's things on their channel",
		injection:
			"3,000 (long: 150,000) generated messages of workers that are none, two attempts aboard; 10 (long: 250) real workers whose function writes bytes into its channel",
		holds:
			"every attempt aboard ends once, with its own answer or a documented code; the worker is killed; other functions do not notice",
	},
];
