// What goes on behind a pane and need not be rendered: credentials and sockets as they are asked for, told to the log
// with what went over the wire, slower where somebody wants to watch, and with a lie where one was planned.

import { tokenFrom } from "tornado-wsauth";
import { fetchJwt, type Login } from "./api";
import { shorten, shortenMessage } from "./format";
import type { LogEvent, StepName, WireLine } from "./paneLog";
import { directedWebSocket, type Director, type Plan } from "./sabotage";

const getToken = tokenFrom("/ws/token");

export class Backstage {
  /** Milliseconds before each step. */
  pause = 0;
  /** What the next attempt does wrong. */
  plan: Plan | null = null;
  /** Whether the next JWT is for the live connection and not for another attempt. */
  isRenewing = false;
  /** For the option of this name. */
  readonly WebSocket: typeof WebSocket;

  #tell: (event: LogEvent) => void;
  #pings = new Map<number, number>(); // when each was sent, by its number
  #lastPing = 0;

  constructor(tell: (event: LogEvent) => void) {
    this.#tell = tell;
    this.WebSocket = directedWebSocket(this.#director());
  }

  async fetchJwt(login: Login, signal: AbortSignal): Promise<{ jwt: string; expires_in: number }> {
    if (this.isRenewing) return await fetchJwt(login, signal);
    await slowly(this.pause, signal);
    this.#wire("jwt", "sent", "POST /jwt");
    const answer = await fetchJwt(login, signal);
    this.#wire("jwt", "received", `200 ${JSON.stringify({ ...answer, jwt: shorten(answer.jwt) })}`);
    return answer;
  }

  async fetchToken(jwt: string, signal: AbortSignal): Promise<string> {
    await slowly(this.pause, signal);
    this.#wire("token", "sent", `POST /ws/token Authorization: Bearer ${shorten(jwt)}`);
    const token = await getToken({ jwt, signal });
    this.#wire("token", "received", `200 ${JSON.stringify({ token: shorten(token) })}`);
    return token;
  }

  /** Return the next message to measure a round trip with. */
  ping(): object {
    this.#lastPing += 1;
    this.#pings.set(this.#lastPing, performance.now());
    return { type: "ping", id: this.#lastPing };
  }

  hearPong(id: number): void {
    const sentAt = this.#pings.get(id);
    this.#pings.delete(id);
    if (sentAt === undefined) return;
    this.#tell({ type: "latency", at: Date.now(), milliseconds: performance.now() - sentAt });
  }

  forgetPings(): void {
    this.#pings.clear();
  }

  #director(): Director {
    return {
      takePlan: () => {
        const plan = this.plan;
        this.plan = null;
        return plan;
      },
      pause: () => this.pause,
      opens: (url) => {
        const { pathname, searchParams } = new URL(url);
        const token = searchParams.get("token");
        const query = token === null ? "" : `?token=${shorten(token)}`;
        this.#wire("upgrade", "sent", `GET ${pathname}${query} Upgrade: websocket`);
      },
      isOpen: () => this.#wire("upgrade", "received", "101 Switching Protocols"),
      says: (message) => this.#wire("authenticate", "sent", message === null ? "(nothing)" : shortenMessage(message)),
      hears: (message) => this.#wire("ready", "received", message),
    };
  }

  #wire(step: StepName, direction: WireLine["direction"], text: string): void {
    this.#tell({ type: "wire", at: Date.now(), step, line: { direction, text } });
  }
}

async function slowly(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds === 0) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
  signal.throwIfAborted();
}
