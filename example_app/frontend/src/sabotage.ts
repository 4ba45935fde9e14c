// Failures on purpose. The client of the library stays honest throughout: it is its socket that lies for it, once.
//
// `prepare` of a failure makes a `Plan` ahead of time; the next socket that is opened takes it; the one after that is
// honest again. The same class reports what really went over the wire, lies included.

import { tokenFrom } from "tornado-wsauth";
import { fetchExpiredJwt, fetchJwt, logIn, type Config, type Login } from "./api";

/** What one attempt does instead of what it should. Left out: nothing. */
export interface Plan {
  /** The connection token in the URL; null for none. */
  readonly token?: string | null;
  /** What is sent as the first message, given what should be; null for nothing at all. */
  readonly firstMessage?: (honest: string) => string | null;
}

/** Who a socket asks for its plan and tells what it does. */
export interface Director {
  takePlan(): Plan | null;
  /** Milliseconds to wait before the first message. */
  pause(): number;
  opens(url: string): void;
  isOpen(): void;
  says(message: string | null): void;
  hears(message: string): void;
}

/** Return a class for the option `WebSocket`, whose sockets do as this director says until they have said one thing. */
export function directedWebSocket(director: Director): typeof WebSocket {
  return class DirectedWebSocket extends WebSocket {
    #firstMessage: Plan["firstMessage"];
    #hasSpoken = false;

    constructor(url: string | URL, protocols?: string | string[]) {
      const plan = director.takePlan();
      const address = plan?.token === undefined ? String(url) : withToken(url, plan.token);
      super(address, protocols);
      this.#firstMessage = plan?.firstMessage;
      director.opens(address);
      this.addEventListener("open", () => director.isOpen(), { once: true });
      this.addEventListener("message", ({ data }) => director.hears(String(data)), { once: true });
    }

    override send(data: Parameters<WebSocket["send"]>[0]): void {
      if (this.#hasSpoken) return super.send(data);
      this.#hasSpoken = true;
      const message = this.#firstMessage ? this.#firstMessage(String(data)) : String(data);
      const pause = director.pause();
      const speak = () => {
        if (this.readyState !== WebSocket.OPEN) return;
        director.says(message);
        if (message !== null) super.send(message);
      };
      return pause ? void setTimeout(speak, pause) : speak();
    }
  };
}

function withToken(url: string | URL, token: string | null): string {
  const address = new URL(url);
  if (token === null) address.searchParams.delete("token");
  else address.searchParams.set("token", token);
  return address.href;
}

export interface FailureOfAttempt {
  readonly name: string;
  /** The close code to expect. */
  readonly code: number;
  readonly why: string;
  prepare(login: Login, config: Config): Plan | Promise<Plan>;
}

export const FAILURES_OF_ATTEMPTS: readonly FailureOfAttempt[] = [
  {
    name: "No token",
    code: 1006,
    why: "The upgrade is refused with a 401. A browser tells its page no more than 1006, so the client tries again.",
    prepare: () => ({ token: null }),
  },
  {
    name: "Expired token",
    code: 1006,
    why: "A real token, but its time was over when it arrived: the same 401, and a retry with a new one.",
    prepare: async (login) => ({ token: await fetchToken(login, "/demo/expired-token") }),
  },
  {
    name: "Used token",
    code: 1006,
    why: "Another socket has spent it. Whoever finds a token in a log comes too late.",
    prepare: async (login) => ({ token: await spentToken(login) }),
  },
  {
    name: "Forged JWT",
    code: 4401,
    why: "One letter of the signature is changed: jwt_invalid, worth one retry with a fresh JWT.",
    prepare: () => ({ firstMessage: (honest) => jwtMessage(tampered(JSON.parse(honest).token)) }),
  },
  {
    name: "Expired JWT",
    code: 4401,
    why: "A right signature a minute too late: jwt_expired, and a retry with a fresh JWT.",
    prepare: async (login) => {
      const jwt = await fetchExpiredJwt(login);
      return { firstMessage: () => jwtMessage(jwt) };
    },
  },
  {
    name: "Other user's JWT",
    code: 4403,
    why: "Token and JWT are both good, but of two users: user_mismatch. The client stops, for nothing can help.",
    prepare: async (login, config) => {
      const jwt = await jwtOfSomebodyElse(login, config);
      return { firstMessage: () => jwtMessage(jwt) };
    },
  },
  {
    name: "Not JSON first",
    code: 4400,
    why: "The first message is “hello”: bad_message. That is a bug, and the client stops.",
    prepare: () => ({ firstMessage: () => "hello" }),
  },
  {
    name: "Silence",
    code: 4408,
    why: "The socket opens and nobody speaks; after 5 s the server hangs up, and the client tries again.",
    prepare: () => ({ firstMessage: () => null }),
  },
];

/** Open as many connections as a user may have: whatever this user had open before must go. */
export async function crowdOut(login: Login, config: Config): Promise<void> {
  const sockets: WebSocket[] = [];
  for (let count = 0; count < config.max_connections; count += 1) sockets.push(await enter(login));
  setTimeout(() => sockets.forEach((socket) => socket.close()), 1_000);
}

async function enter(login: Login): Promise<WebSocket> {
  const { jwt } = await fetchJwt(login);
  const socket = await opened(await fetchToken(login, "/ws/token", jwt));
  socket.send(jwtMessage(jwt));
  await new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
  return socket;
}

async function fetchToken(login: Login, route: string, jwt?: string): Promise<string> {
  const getToken = tokenFrom(route);
  return await getToken({ jwt: jwt ?? (await fetchJwt(login)).jwt, signal: new AbortController().signal });
}

async function spentToken(login: Login): Promise<string> {
  const token = await fetchToken(login, "/ws/token");
  (await opened(token)).close();
  return token;
}

async function opened(token: string): Promise<WebSocket> {
  const address = new URL(`/demo?token=${token}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onclose = () => reject(new Error("the server did not open another socket"));
  });
  return socket;
}

async function jwtOfSomebodyElse(login: Login, config: Config): Promise<string> {
  const [name, password] = Object.entries(config.users).find(([user]) => user !== login.userId)!;
  const somebodyElse = await logIn(name, password);
  if (somebodyElse === null) throw new Error(`${name} could not log in`);
  return (await fetchJwt(somebodyElse)).jwt;
}

function jwtMessage(token: string): string {
  return JSON.stringify({ type: "jwt", token });
}

function tampered(jwt: string): string {
  const signature = jwt.lastIndexOf(".") + 1;
  return jwt.slice(0, signature) + (jwt[signature] === "A" ? "B" : "A") + jwt.slice(signature + 1);
}
