/** Fails at the top level, after it has said something. */
console.error("connecting to nowhere");
throw new RangeError("no configuration found");
