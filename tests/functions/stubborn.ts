/** Loads or does not, as MODE says: `throw` fails at the top level, `hang` never comes to its end. */
if (process.env["MODE"] === "throw") throw new RangeError("no connection to what it needs");
if (process.env["MODE"] === "hang") await new Promise(() => undefined);

export default function handler(): Response {
	return new Response(`loaded with MODE=${process.env["MODE"] ?? "none"}`);
}
