// The browser's half of tornado_wsauth: a WebSocket that authenticates itself, and does so again when it breaks.
// This file is the life of a connection through its attempts; one socket's is in `exchange.js`, the choice of what to
// do about an end in `reactions.js`. What the names promise stands in `wsauth.d.ts`.

import { Credentials } from "./credentials.js";
import { Failed, LoggedOut, NotReady, Stopped, TryLater } from "./errors.js";
import { Exchange } from "./exchange.js";
import { checkOptions, socketUrl } from "./options.js";
import { backoff, describeClose, usualReaction } from "./reactions.js";
import { pause, startTimer, within } from "./timers.js";
import { isOffline, watch } from "./wake.js";

export { tokenFrom } from "./credentials.js";
export { LoggedOut, NotReady, Stopped, TryLater } from "./errors.js";
export { socketUrl } from "./options.js";
export { describeClose } from "./reactions.js";

export async function connect(options) {
  return await new Connection(options).ready;
}

export class Connection {
  #options;
  #credentials;
  #life = new AbortController();
  #exchange = null;
  #state = "connecting";
  #session = null;
  #lastClose = null;
  #queue = [];
  #failures = 0; // attempts in a row that came to nothing
  #hadSecondChance = false; // a 4401 that is worth one retry has had it
  #renewal = null;
  #keepsRenewing = null; // the exchange for which that goes on
  #endWait = null;
  #resolveReady;
  #rejectReady;
  #resolveStopped;

  constructor(options) {
    this.#options = checkOptions(options);
    this.#credentials = new Credentials(this.#options, this.#life.signal);
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.ready.catch(() => {}); // whoever wants to know awaits it; to the others onClose says the same
    this.stopped = new Promise((resolve) => (this.#resolveStopped = resolve));
    const { signal } = this.#options;
    signal?.addEventListener("abort", () => this.disconnect(), { signal: this.#life.signal });
    // In a microtask: who disconnects in the same breath (React's StrictMode) has spent nothing.
    queueMicrotask(() => (signal?.aborted ? this.disconnect() : this.#run()));
  }

  get state() {
    return this.#state;
  }

  get session() {
    return this.#session;
  }

  get lastClose() {
    return this.#lastClose;
  }

  get unsent() {
    return [...this.#queue];
  }

  send(data) {
    const encoded = encode(data);
    if (this.#canSend) {
      this.#exchange.send(encoded);
    } else if (this.#state === "stopped") {
      throw new NotReady("send(): the connection has stopped; lastClose says why");
    } else if (this.#options.whenNotReady === "throw") {
      throw new NotReady(`send(): the connection is ${this.#state}; wait for ready, or choose whenNotReady: "queue"`);
    } else if (this.#queue.length >= this.#options.maxQueue) {
      throw new NotReady(`send(): ${this.#queue.length} messages wait already, which is maxQueue`);
    } else {
      this.#queue.push(encoded);
    }
  }

  renew() {
    if (this.#state !== "ready") return Promise.reject(new NotReady(`renew(): the connection is ${this.#state}`));
    if (this.#renewal === null) {
      this.#renewal = this.#renewOn(this.#exchange).finally(() => (this.#renewal = null));
      this.#renewal.catch(() => {}); // for those who do not wait for it
    }
    return this.#renewal;
  }

  retryNow() {
    this.#endWait?.();
  }

  disconnect() {
    if (this.#state === "stopped") return;
    const during = this.#state;
    this.#exchange?.drop("disconnected", { code: 1000 });
    this.#stop(this.#closeOf({ code: 1000, reason: "disconnected" }, during, "stop", null));
  }

  // Attempts ------------------------------------------------------------------------------------------------------

  async #run() {
    const { signal } = this.#life;
    if (!signal.aborted) watch({ onOnline: () => this.#onOnline(), onWake: () => this.#onWake() }, signal);
    while (!signal.aborted) {
      const ending = await this.#attempt();
      if (signal.aborted) return;
      const close = this.#judge(ending);
      if (close.reaction === "stop") {
        this.#stop(close);
      } else {
        await this.#wait(close);
      }
    }
  }

  /** Make one attempt, and return how it ended: at once, or after hours of messages. Never throws. */
  async #attempt() {
    this.#setState("connecting");
    try {
      this.#step("jwt");
      const jwt = await this.#credentials.jwt();
      this.#step("token");
      const token = await this.#credentials.token(jwt);
      const address = await this.#address(token);
      this.#step("upgrade");
      this.#exchange = new Exchange(this.#open(address), jwt, this.#options.timeout, {
        onOpen: () => this.#onOpen(),
        onReady: (session) => this.#onReady(session),
        onMessage: (data, event) => this.#call("onMessage", data, event),
        onExpiring: () => this.#keepRenewing(),
      });
      return await this.#exchange.over;
    } catch (error) {
      return { code: null, reason: error.reason, error: error.cause };
    }
  }

  async #address(token) {
    const { url, timeout, tokenParam } = this.#options;
    let given = url;
    try {
      if (typeof url === "function") given = await within(timeout, this.#life.signal, url);
    } catch (error) {
      throw new Failed("url_unavailable", error);
    }
    try {
      const address = socketUrl(given);
      address.searchParams.set(tokenParam, token);
      return address.href;
    } catch (error) {
      throw new Failed("bad_url", error);
    }
  }

  #open(address) {
    this.#life.signal.throwIfAborted(); // from here to the exchange nothing is awaited: no socket is left behind
    const { protocols, binaryType, WebSocket } = this.#options;
    try {
      const socket = protocols === undefined ? new WebSocket(address) : new WebSocket(address, protocols);
      socket.binaryType = binaryType;
      return socket;
    } catch (error) {
      throw new Failed("bad_url", error);
    }
  }

  #onOpen() {
    this.#setState("authenticating");
    this.#step("authenticate");
  }

  #onReady(session) {
    this.#session = session;
    this.#failures = 0;
    this.#hadSecondChance = false;
    this.#setState("ready");
    this.#step("ready");
    while (this.#queue.length > 0 && this.#canSend) this.#exchange.send(this.#queue.shift());
    this.#resolveReady(this);
  }

  // What comes after an end ---------------------------------------------------------------------------------------

  #judge({ code, reason, error }) {
    const during = this.#state;
    const { retries } = this.#options;
    const usual = error instanceof LoggedOut ? "stop" : usualReaction(code, reason, during);
    const isHopeless = usual === "stop" || (usual === "once" && this.#hadSecondChance) || this.#failures >= retries;
    const retryIn = usual === "now" ? 0 : this.#delayAfter(this.#failures, error);
    const ending = { code, reason, error };
    const close = this.#closeOf(ending, during, isHopeless ? "stop" : "retry", retryIn);
    if (usual === "once") this.#hadSecondChance = true;
    this.#failures += 1;
    const decided = this.#call("decide", close);
    return decided === "stop" || decided === "retry" ? this.#closeOf(ending, during, decided, retryIn) : close;
  }

  #delayAfter(failures, error) {
    const { retryInterval, maxRetryInterval } = this.#options;
    const atLeast = error instanceof TryLater ? error.retryAfter * 1000 : 0;
    return atLeast + backoff(failures, retryInterval, maxRetryInterval);
  }

  #closeOf({ code, reason, error }, during, reaction, retryIn) {
    const words = describeClose(code, reason);
    const close = { code, reason, words, during, reaction, retryIn: reaction === "stop" ? null : retryIn };
    return Object.freeze(error === undefined ? close : { ...close, error });
  }

  async #wait(close) {
    this.#lastClose = close;
    const waited = new Promise((resolve) => {
      const timer = startTimer(close.retryIn, () => isOffline() || resolve());
      this.#endWait = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#setState("waiting");
    this.#call("onClose", close, this);
    await waited;
    this.#endWait = null;
  }

  #stop(close) {
    this.#lastClose = close;
    this.#life.abort(new Stopped(close));
    this.#credentials.forget();
    const { onState, onClose } = this.#options;
    this.#options = { onState, onClose };
    this.#endWait?.();
    this.#setState("stopped");
    this.#call("onClose", close, this);
    this.#rejectReady(new Stopped(close));
    this.#resolveStopped(close);
  }

  // While it is live ----------------------------------------------------------------------------------------------

  async #renewOn(exchange) {
    this.#step("renew");
    const jwt = await this.#credentials.jwt();
    if (this.#exchange !== exchange || this.#state !== "ready") throw new NotReady("renew(): the connection has ended");
    this.#session = await exchange.renew(jwt);
    this.#step("renewed");
    return this.#session;
  }

  /** Renew, and try again with backoff while this connection lives: its end is what comes if nothing else does. */
  async #keepRenewing() {
    const exchange = this.#exchange;
    const isLive = () => this.#exchange === exchange && this.#canSend;
    if (!isLive() || this.#keepsRenewing === exchange) return;
    this.#keepsRenewing = exchange;
    for (let failures = 0; isLive(); failures += 1) {
      try {
        await this.renew();
        break;
      } catch ({ reason, cause }) {
        if (cause instanceof LoggedOut) exchange.drop(reason, { error: cause });
        else await pause(this.#delayAfter(failures, cause), this.#life.signal);
      }
    }
    this.#keepsRenewing = null;
  }

  #onOnline() {
    const delay = backoff(0, this.#options.retryInterval, 1_000); // a whole office comes back at the same time
    startTimer(delay, () => (this.#state === "waiting" ? this.retryNow() : this.#onWake()));
  }

  /** See whether the server is still there, by asking what it answers anyway. No answer in time is the end. */
  #onWake() {
    this.#keepRenewing();
  }

  // -----------------------------------------------------------------------------------------------------------------

  get #canSend() {
    return this.#state === "ready" && this.#exchange.isOpen;
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#call("onState", state, this);
  }

  #step(step) {
    this.#call("onStep", step, this);
  }

  /** Call one of the application's functions. What it throws is reported and does not reach the connection. */
  #call(name, ...given) {
    try {
      return this.#options[name]?.(...given);
    } catch (error) {
      (globalThis.reportError ?? console.error)(error);
      return undefined;
    }
  }
}

function encode(data) {
  const isBytes = data instanceof ArrayBuffer || ArrayBuffer.isView(data) || data instanceof Blob;
  const encoded = typeof data === "string" || isBytes ? data : JSON.stringify(data);
  if (encoded === undefined) throw new TypeError(`send(): there is no JSON for ${typeof data}`);
  return encoded;
}
