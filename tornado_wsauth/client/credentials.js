// A JWT and a token for each attempt: asked for afresh, once at a time, and not for longer than `timeout`.

import { Failed, LoggedOut, TryLater } from "./errors.js";
import { within } from "./timers.js";

const REMEMBERED = 100; // spent tokens, to recognise one that comes again

export class Credentials {
  #options; // null once they are forgotten
  #life; // aborted when the connection stops
  #jwtInFlight;
  #spent = new Set();

  constructor(options, life) {
    this.#options = options;
    this.#life = life;
  }

  /** A renewal that was under way when its connection broke serves the next attempt: it has not been used yet. */
  jwt() {
    this.#jwtInFlight ??= this.#ask("jwt_unavailable", (signal) => this.#options.getJwt({ signal })).finally(() => {
      this.#jwtInFlight = undefined;
    });
    return this.#jwtInFlight;
  }

  async token(jwt) {
    const token = await this.#ask("token_unavailable", (signal) => this.#options.getToken({ jwt, signal }));
    if (this.#spent.has(token)) throw new Failed("spent_token");
    this.#spent.add(token);
    if (this.#spent.size > REMEMBERED) this.#spent.delete(this.#spent.values().next().value);
    return token;
  }

  forget() {
    this.#options = null;
    this.#spent.clear();
  }

  async #ask(reason, question) {
    let answer;
    try {
      answer = await within(this.#options.timeout, this.#life, question);
    } catch (error) {
      throw new Failed(reason, error);
    }
    if (typeof answer === "string" && answer !== "") return answer;
    const what = answer === "" ? "empty text" : answer === null ? "null" : typeof answer;
    throw new Failed(reason, new TypeError(`text was expected, and ${what} came`));
  }
}

/** Return a `getToken` that POSTs to this URL with the JWT as Bearer. */
export function tokenFrom(url, init = {}) {
  return async ({ jwt, signal }) => {
    const headers = new Headers(init.headers);
    headers.set("Authorization", `Bearer ${jwt}`);
    const response = await fetch(url, { method: "POST", cache: "no-store", ...init, headers, signal });
    if (response.status === 401) throw new LoggedOut("the token route answered 401: the JWT is not valid");
    const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
    if (!response.ok && retryAfter >= 0) throw new TryLater(`the token route answered ${response.status}`, retryAfter);
    if (!response.ok) throw new Error(`the token route answered ${response.status}`);
    const { token } = await response.json();
    if (typeof token !== "string") throw new Error("the token route answered without a token; is its address right?");
    return token;
  };
}
