/** Where a run took place: figures without this line mean nothing. */
import { execFileSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import Database from "better-sqlite3";

export interface Machine {
	readonly cpu: string;
	readonly cores: number;
	readonly memoryGb: number;
	readonly os: string;
	readonly node: string;
	readonly bun: string;
	readonly sqlite: string;
	/** Type of the measured folder's file system, hexadecimal as statfs gives it. */
	readonly fileSystem: string;
	readonly date: string;
}

const TMPFS = 0x01021994;

export function describeMachine(folder: string, bunPath: string): Machine {
	const db = new Database(":memory:");
	const sqlite = db.prepare<[], string>("SELECT sqlite_version()").pluck().get() ?? "?";
	db.close();
	return {
		cpu: cpus()[0]?.model.trim() ?? "?",
		cores: availableParallelism(),
		memoryGb: Math.round(totalmem() / 2 ** 30),
		os: `${process.platform} ${process.arch}`,
		node: process.versions.node,
		bun: execFileSync(bunPath, ["--version"], { encoding: "utf8" }).trim(),
		sqlite,
		fileSystem: `0x${statfsSync(folder).type.toString(16)}`,
		date: new Date().toISOString(),
	};
}

export function machineLine(machine: Machine): string {
	const { cpu, cores, memoryGb, os, node, bun, sqlite, fileSystem, date } = machine;
	return `${cpu} × ${cores}, ${memoryGb} GB, ${os}, file system ${fileSystem} · Node ${node} · Bun ${bun} · SQLite ${sqlite} · ${date}`;
}

/** In memory an fsync costs nothing, so every figure about durability would flatter. */
export function isMemoryDisk(folder: string): boolean {
	return statfsSync(folder).type === TMPFS;
}
