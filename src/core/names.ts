/** One validator for each kind of name. No path or statement is ever built from a name that has not passed here. */
import { EngineError } from "./errors.ts";

const FUNCTION_NAME = /^[a-z][a-z0-9_-]{0,127}$/;
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** What ids.ts makes; a name of this shape would be ambiguous wherever an id or a name may stand. */
const ID_SHAPE = /^(inv|fn|dep|sch|evt)_[0-9a-v]{12,}$/;

function shown(value: string): string {
	return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}

export function checkFunctionName(name: string): string {
	if (!FUNCTION_NAME.test(name)) {
		throw new EngineError(
			"BAD_NAME",
			`expected a function name of 1 to 128 characters a-z, 0-9, "-" and "_" that starts with a letter, got ${shown(name)}`,
		);
	}
	if (ID_SHAPE.test(name)) {
		throw new EngineError("BAD_NAME", `the name ${shown(name)} has the shape of an id; choose another`);
	}
	return name;
}

function checkLabel(kind: string, value: string): string {
	if (!LABEL.test(value) || value.includes("..")) {
		throw new EngineError(
			"BAD_NAME",
			`expected a ${kind} of 1 to 128 characters A-Z, a-z, 0-9, ".", "-" and "_" that starts with a letter or digit and has no "..", got ${shown(value)}`,
		);
	}
	return value;
}

export const checkVersionName = (value: string): string => checkLabel("version", value);
export const checkEventType = (value: string): string => checkLabel("event type", value);
export const checkScheduleName = (value: string): string => checkLabel("schedule name", value);

export function checkEnvName(name: string): string {
	if (!ENV_NAME.test(name)) {
		throw new EngineError("BAD_NAME", `expected an environment variable name like API_KEY, got ${shown(name)}`);
	}
	return name;
}
