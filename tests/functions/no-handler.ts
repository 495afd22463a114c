/** Exports things, but no handler. */
export const answer = 42;
