// One socket's life in the protocol: the JWT first, `auth_ok`, messages, renewals, the end. It knows nothing of what
// comes after: that is `wsauth.js`.

import { Failed } from "./errors.js";
import { startTimer } from "./timers.js";

export class Exchange {
  #socket;
  #timeout;
  #events;
  #deadline;
  #session = null;
  #renewal = null; // resolve and reject of the one that is outstanding
  #end;

  /** Resolves to `{code, reason, error}` when it is over. */
  over;

  /**
   * `events` has `onOpen()`, `onReady(session)`, `onMessage(data, event)`, `onExpiring()`. The JWT goes out when the
   * socket opens, and is not kept.
   */
  constructor(socket, jwt, timeout, events) {
    this.#socket = socket;
    this.#timeout = timeout;
    this.#events = events;
    this.over = new Promise((resolve) => (this.#end = resolve));
    socket.onopen = () => {
      socket.onopen = null; // and with it this function, which has the JWT
      this.#expectAnswer();
      this.#present(jwt);
      events.onOpen();
    };
    socket.onmessage = (event) => this.#receive(event);
    socket.onclose = ({ code, reason }) => this.#finish({ code, reason });
    this.#expectAnswer();
  }

  /** Whether what is sent now can arrive: not once the other side has begun to close. */
  get isOpen() {
    return this.#socket.readyState === 1;
  }

  send(data) {
    this.#socket.send(data);
  }

  /** Send another JWT. Resolves to the session at the server's `auth_ok`; rejects when the exchange ends before. */
  renew(jwt) {
    return new Promise((resolve, reject) => {
      this.#renewal = { resolve, reject };
      this.#expectAnswer();
      this.#present(jwt);
    });
  }

  /** End it from this side, at once: a peer that is gone would keep a closing handshake waiting. */
  drop(reason, { code = null, error } = {}) {
    this.#socket.close(1000);
    this.#finish({ code, reason, error });
  }

  #present(jwt) {
    this.#socket.send(JSON.stringify({ type: "jwt", token: jwt }));
  }

  #receive(event) {
    const message = protocolMessage(event.data);
    if (message?.type === "auth_ok" && this.#accepts(message)) {
      this.#accept({ userId: message.user_id, expiresAt: message.expires_at ?? null });
    } else if (this.#session === null) {
      this.drop("bad_server");
    } else if (message?.type === "auth_expiring") {
      this.#events.onExpiring();
    } else {
      this.#events.onMessage(event.data, event);
    }
  }

  /** An application may pass on what others wrote, so what looks like ours counts only where it is due. */
  #accepts({ user_id: userId }) {
    if (this.#session === null) return typeof userId === "string";
    return this.#renewal !== null && userId === this.#session.userId;
  }

  #accept(session) {
    clearTimeout(this.#deadline);
    const isFirst = this.#session === null;
    this.#session = Object.freeze(session);
    this.#renewal?.resolve(this.#session);
    this.#renewal = null;
    if (isFirst) this.#events.onReady(this.#session);
  }

  #expectAnswer() {
    clearTimeout(this.#deadline);
    this.#deadline = startTimer(this.#timeout, () => this.drop("timeout"));
  }

  #finish(ending) {
    clearTimeout(this.#deadline);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    this.#renewal?.reject(new Failed(ending.reason));
    this.#renewal = null;
    this.#end(ending);
  }
}

/** Return the message if it is one of the protocol's. They are short: nothing long is parsed to find out. */
function protocolMessage(data) {
  if (typeof data !== "string" || data.length > 4096 || !data.includes('"auth_')) return undefined;
  try {
    return JSON.parse(data) ?? undefined;
  } catch {
    return undefined;
  }
}
