/** The sources' door. The socket client has its own (`./client`), because it runs where no engine is. */
export { cronSource } from "./cron.ts";
export { eventsSource } from "./events.ts";
export { httpSource, type HttpAddress, type HttpSource, type HttpSourceOptions } from "./http.ts";
export { socketSource, type SocketSource, type SocketSourceOptions } from "./socket.ts";
export { freeSocketPath, inspectSocketPath } from "./socket-path.ts";
