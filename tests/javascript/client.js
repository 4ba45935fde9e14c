// Connections for tests: with functions that work unless a test says otherwise, and a memory of all that was called.
import { onTestFinished, vi } from "vitest";
import { Connection, tokenFrom } from "tornado-wsauth";

/** Milliseconds: waits between attempts that a test need not notice. */
export const SOON = 5;

/** Returns a connection to the site's chat, with what it was told: `{connection, getJwt, states, closes, …}`. */
export function open(site, options = {}) {
  const told = recorder(site, options);
  const connection = new Connection(told.options);
  onTestFinished(() => connection.disconnect());
  return { ...told, connection };
}

/** Returns options for a connection, and the lists in which everything it calls is noted. */
export function recorder(site, overrides = {}) {
  const states = [];
  const closes = [];
  const messages = [];
  const steps = [];
  const getJwt = vi.fn(overrides.getJwt ?? (() => site.makeJwt()));
  const getToken = vi.fn(overrides.getToken ?? tokenFrom(site.tokenUrl));
  const options = {
    url: site?.chat,
    retryInterval: SOON,
    ...overrides,
    getJwt,
    getToken,
    onState: noting(states, overrides.onState),
    onClose: noting(closes, overrides.onClose),
    onMessage: noting(messages, overrides.onMessage),
    onStep: noting(steps, overrides.onStep),
  };
  return { options, getJwt, getToken, states, closes, messages, steps };
}

function noting(list, callback) {
  return (first, ...others) => {
    list.push(first);
    callback?.(first, ...others);
  };
}

/** Returns a promise with the functions that settle it. */
export function deferred() {
  return Promise.withResolvers();
}

/** A WebSocket that connects to nothing: a test says what happens to it. The newest is `FakeSocket.made.at(-1)`. */
export function fakeWebSocket() {
  return class FakeSocket extends EventTarget {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    static made = [];

    constructor(url, protocols) {
      super();
      Object.assign(this, { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });
      Object.assign(this, { url: String(url), protocols, protocol: "", extensions: "", bufferedAmount: 0 });
      Object.assign(this, { readyState: 0, binaryType: "blob", sent: [], closedWith: null });
      FakeSocket.made.push(this);
    }

    send(data) {
      this.sent.push(data);
    }

    close(code, reason) {
      this.closedWith ??= [code, reason];
      if (this.readyState < 2) this.readyState = 2;
    }

    /** What the network does. */
    happens(type, details = {}) {
      this.readyState = { open: 1, close: 3 }[type] ?? this.readyState;
      const event = Object.assign(new Event(type), details);
      this[`on${type}`]?.(event);
      this.dispatchEvent(event);
    }

    says(message) {
      this.happens("message", { data: typeof message === "string" ? message : JSON.stringify(message) });
    }

    /** The server lets the client in. */
    welcomes(user = "alice", expiresAt = 2_000_000_000) {
      this.happens("open");
      this.says({ type: "auth_ok", user_id: user, expires_at: expiresAt });
    }

    ends(code = 1006, reason = "") {
      this.happens("close", { code, reason, wasClean: code !== 1006 });
    }
  };
}
