// A run is one way through the handshake, told step by step: the one that succeeds, and six that are made to fail.
// It reports to a `StepList` (view.js) and knows no more of the page than that.

import { ClosedError, Connection, HttpError, isServerThere, logIn, requestToken } from "./handshake.js";

export const LOGIN = 0;
export const TOKEN = 1;
export const UPGRADE = 2;
export const JWT = 3;
export const READY = 4;

const SLOW_MOTION = 650; // milliseconds before each step

export class Run {
  /** `steps`: where to report; `login`: `{username, password}`; `isSlow()`: whether to pause before each step. */
  constructor(steps, login, isSlow) {
    this.steps = steps;
    this.login = login;
    this.isSlow = isSlow;
    this.stoppedAt = null;
  }

  async logIn(login = this.login) {
    return this.#step(LOGIN, async (say) => {
      say.sent(`POST /login ${JSON.stringify({ username: login.username, password: "•••" })}`);
      const session = await logIn(login.username, login.password);
      say.received(`200 ${JSON.stringify({ ...session, jwt: shorten(session.jwt) })}`);
      return session;
    });
  }

  async token(jwt, path = "ws/token") {
    return this.#step(TOKEN, async (say) => {
      say.sent(`POST /${path} Authorization: Bearer ${shorten(jwt)}`);
      const { token, expires_in } = await requestToken(jwt, path);
      say.received(`200 ${JSON.stringify({ token: shorten(token), expires_in })}`);
      return token;
    });
  }

  async upgrade(token) {
    return this.#step(UPGRADE, (say) => this.#open(token, say));
  }

  async upgradeTwice(token) {
    return this.#step(UPGRADE, async (say) => {
      const first = await this.#open(token, say);
      try {
        return await this.#open(token, say);
      } finally {
        first.close();
      }
    });
  }

  /** Steps 4 and 5 in one go: the answer to the JWT must not wait for slow motion. */
  async authenticate(connection, jwt) {
    const accepted = await this.#step(JWT, (say) => {
      say.sent(JSON.stringify({ type: "jwt", token: shorten(jwt) }));
      return { promise: connection.authenticate(jwt) };
    });
    return this.#step(
      READY,
      async (say) => {
        const authOk = await accepted.promise;
        say.received(JSON.stringify(authOk));
        return authOk;
      },
      { atOnce: true },
    );
  }

  async stayAway(connection, seconds) {
    return this.#step(JWT, async (say) => {
      const deadline = performance.now() + seconds * 1000;
      const tell = () => say.countdown(Math.max(0, deadline - performance.now()) / 1000);
      const timer = setInterval(tell, 100);
      tell();
      try {
        throw new ClosedError(await connection.closed);
      } finally {
        clearInterval(timer);
      }
    });
  }

  async #open(token, say) {
    say.sent(`GET /demo${token === null ? "" : `?token=${shorten(token)}`} Upgrade: websocket`);
    const connection = await Connection.open(token);
    say.received("101 Switching Protocols");
    this.steps.watch(connection);
    return connection;
  }

  async #step(number, work, { atOnce = false } = {}) {
    this.steps.begin(number);
    if (this.isSlow() && !atOnce) await new Promise((resolve) => setTimeout(resolve, SLOW_MOTION));
    const begun = performance.now();
    try {
      const result = await work(this.steps.voice(number));
      this.steps.end(number, "done", performance.now() - begun);
      return result;
    } catch (error) {
      this.steps.end(number, "failed", performance.now() - begun, describe(error));
      this.stoppedAt = number;
      throw error;
    }
  }
}

/** The way that succeeds. `session` is what an earlier login answered, or null; `onSession` gets a new one. */
export async function connect(run, session, onSession) {
  if (session === null) {
    session = await run.logIn();
    onSession(session);
  } else {
    run.steps.reuse(LOGIN, "You are still logged in: the JWT you have is good for a while.");
  }
  const token = await run.token(session.jwt);
  const connection = await run.upgrade(token);
  const authOk = await run.authenticate(connection, session.jwt);
  return { connection, authOk };
}

const REFUSED = { step: UPGRADE, code: 1006, status: 401 };
const RETRY_ONCE = "Fetch a new token and try once more.";

/** What can be provoked. `expect` is what the protocol promises; a run that ends otherwise says so. */
export const SCENARIOS = [
  {
    id: "no-token",
    title: "No token",
    summary: "Knock without one.",
    expect: { ...REFUSED, log: "token_missing" },
    words: "The upgrade never happened: without a token there is no connection to send anything over.",
    advice: RETRY_ONCE,
    async run(run) {
      await run.logIn();
      run.steps.skip(TOKEN, "Left out on purpose.");
      return run.upgrade(null);
    },
  },
  {
    id: "expired-token",
    title: "Expired token",
    summary: "Come too late with a real one.",
    expect: { ...REFUSED, log: "token_expired" },
    words: "The token was real, but its time was over when it arrived. This one lived a microsecond; they usually have 30 seconds.",
    advice: RETRY_ONCE,
    async run(run) {
      const { jwt } = await run.logIn();
      return run.upgrade(await run.token(jwt, "demo/expired-token"));
    },
  },
  {
    id: "reused-token",
    title: "Reused token",
    summary: "Use one token twice.",
    expect: { ...REFUSED, log: "token_replayed" },
    words: "The first upgrade spent the token, so the second found it used. Whoever reads a token in a log or a history comes too late.",
    advice: RETRY_ONCE,
    async run(run) {
      const { jwt } = await run.logIn();
      return run.upgradeTwice(await run.token(jwt));
    },
  },
  {
    id: "bad-jwt",
    title: "Bad JWT",
    summary: "Change its signature.",
    expect: { step: READY, code: 4401, reason: "jwt_invalid", log: "jwt_invalid" },
    words: "The token opened the socket, but one changed letter in the JWT’s signature ended it. auth_ok never came.",
    advice: "Log in again, then try once more.",
    async run(run) {
      const { jwt } = await run.logIn();
      const connection = await run.upgrade(await run.token(jwt));
      run.steps.note(JWT, "The first letter of the signature is changed on purpose.");
      return run.authenticate(connection, tamper(jwt));
    },
  },
  {
    id: "other-user",
    title: "Another user’s JWT",
    summary: "Mix two identities.",
    expect: { step: READY, code: 4403, reason: "user_mismatch", log: "user_mismatch" },
    words: "Token and JWT are both valid, but not of the same user. Two halves of two logins do not make one.",
    advice: "Stop. Trying again cannot help.",
    async run(run, { other }) {
      const { jwt } = await run.logIn();
      const { jwt: foreign } = await logIn(other.username, other.password);
      const connection = await run.upgrade(await run.token(jwt));
      run.steps.note(JWT, `The token is ${run.login.username}’s; this JWT is ${other.username}’s.`);
      return run.authenticate(connection, foreign);
    },
  },
  {
    id: "silence",
    title: "Silence",
    summary: "Connect and say nothing.",
    expect: { step: JWT, code: 4408, reason: "auth_timeout", log: "auth_timeout" },
    words: "The socket was open and nobody spoke, so the server hung up. Sending pings or half a message would not have bought time.",
    advice: "Try again after a pause that grows each time.",
    async run(run, { authTimeout }) {
      const { jwt } = await run.logIn();
      const connection = await run.upgrade(await run.token(jwt));
      run.steps.note(JWT, "No JWT is sent.");
      return run.stayAway(connection, authTimeout);
    },
  },
];

/** Run `scenario` and return how it ended: `{step, code, reason, asPromised, isServerGone}`. */
export async function provoke(scenario, run, context) {
  let error = null;
  try {
    await scenario.run(run, context);
  } catch (caught) {
    if (!(caught instanceof ClosedError || caught instanceof HttpError)) throw caught;
    error = caught;
  }
  const { expect } = scenario;
  const outcome = {
    step: run.stoppedAt,
    code: error?.code ?? null,
    status: error?.status ?? null,
    reason: error?.reason ?? "",
    isServerGone: error !== null && !(await isServerThere()),
  };
  outcome.asPromised =
    !outcome.isServerGone &&
    outcome.step === expect.step &&
    outcome.code === expect.code &&
    outcome.reason === (expect.reason ?? "");
  return outcome;
}

/** Secrets have no business on a screen: show enough to tell two apart. */
export function shorten(secret) {
  return `${secret.slice(0, 6)}…${secret.slice(-3)}`;
}

function tamper(jwt) {
  const signature = jwt.lastIndexOf(".") + 1;
  return jwt.slice(0, signature) + (jwt[signature] === "A" ? "B" : "A") + jwt.slice(signature + 1);
}

function describe(error) {
  if (error instanceof HttpError) {
    return error.status ? `${error.status} ${JSON.stringify({ error: error.error })}` : "no answer";
  }
  return error instanceof ClosedError ? `closed ${error.code} ${error.reason}`.trimEnd() : String(error);
}
