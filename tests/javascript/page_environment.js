// jsdom, but with Node's own WebSocket and what belongs to it. jsdom's does not open sockets under Vitest: the events
// that it makes are then not those that it dispatches.
import { builtinEnvironments } from "vitest/runtime";

const { WebSocket, Event, EventTarget, AbortController, AbortSignal } = globalThis;

export default {
  ...builtinEnvironments.jsdom,
  name: "page",
  async setup(global, options) {
    const environment = await builtinEnvironments.jsdom.setup(global, options);
    Object.assign(global, { WebSocket, Event, EventTarget, AbortController, AbortSignal });
    return environment;
  },
};
