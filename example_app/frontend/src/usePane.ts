// The glue between a pane and the library: one connection, what is told of it, and what can be done to it.

import { useEffect, useReducer, useState } from "react";
import { LoggedOut, type Close, type Connection, type Session, type State } from "tornado-wsauth";
import { useAuthWebSocket } from "tornado-wsauth/react";
import type { Login, Status } from "./api";
import { Backstage } from "./backstage";
import { formatDuration, formatTime } from "./format";
import { EMPTY, reduce, type Kind, type LogEvent, type PaneLog } from "./paneLog";
import type { Plan } from "./sabotage";

const SLOW_MOTION = 1_000; // milliseconds before each step
const PING_INTERVAL = 1_000;

export interface PaneOptions {
  readonly login: Login | null;
  readonly slowMotion: boolean;
  /** Called when the server has ended this login, with a sentence for its user. */
  readonly onLoggedOut: (why: string) => void;
  readonly onStatus: (status: Status) => void;
  readonly onReady: () => void;
  /** Called with the process that serves this client; null: none does. */
  readonly onServedBy: (process: number | null) => void;
}

export interface Pane {
  readonly state: State;
  readonly session: Session | null;
  readonly log: PaneLog;
  /** Seconds that the JWTs of this login live, once one has come. */
  readonly jwtLifetime: number;
  readonly groups: ReadonlySet<string>;
  connect(): void;
  disconnect(): void;
  /** Ends a wait. */
  tryNow(): void;
  send(message: object): boolean;
  setMember(group: string, isMember: boolean): void;
  note(event: "login" | "logout" | "sabotage", text: string): void;
  /** Make the next attempt with this plan, now. */
  attempt(plan: Plan): void;
}

export function usePane({ login, slowMotion, onLoggedOut, onStatus, onReady, onServedBy }: PaneOptions): Pane {
  const [log, dispatch] = useReducer(reduce, EMPTY);
  const [wanted, setWanted] = useState<string | null>(null); // the login that is to be connected; never the next one
  const [jwtLifetime, setJwtLifetime] = useState(60);
  const [groups, setGroups] = useState<ReadonlySet<string>>(new Set());
  const [backstage] = useState(() => new Backstage(dispatch));
  useEffect(() => {
    backstage.pause = slowMotion ? SLOW_MOTION : 0;
  }, [backstage, slowMotion]);

  const connection = useAuthWebSocket({
    url: "/demo",
    enabled: login !== null && login.session === wanted,
    user: login?.session ?? null,
    WebSocket: backstage.WebSocket,
    maxRetryInterval: 8_000, // nobody wants to watch a page wait for half a minute
    getJwt: async ({ signal }) => {
      const { jwt, expires_in } = await backstage.fetchJwt(login!, signal);
      setJwtLifetime(expires_in);
      return jwt;
    },
    getToken: ({ jwt, signal }) => backstage.fetchToken(jwt, signal),
    onStep: (step, { session }) => {
      backstage.isRenewing = step === "renew";
      if (step === "renewed") dispatch(noteOf("renewed", renewal(session)));
      else if (step !== "renew") dispatch({ type: "step", at: Date.now(), step, clock: performance.now() });
    },
    onState: (state, made) => {
      if (state !== "ready") {
        onServedBy(null);
        return;
      }
      dispatch(noteOf("ready", `Let in as ${made.session?.userId}.`));
      rejoin(made, groups);
      onReady();
    },
    onClose: (close) => {
      dispatch({ type: "close", at: Date.now(), close, clock: performance.now() });
      if (hasEndedLogin(close)) onLoggedOut("The server has ended this login. Log in again to go on.");
    },
    onMessage: (data) => {
      const message = JSON.parse(data);
      if (message.type === "broadcast") onStatus(message);
      if (message.type === "session") onServedBy(message.process);
      if (message.type === "pong") backstage.hearPong(message.id);
      else dispatch({ type: "message", at: Date.now(), kind: message.type, text: wordsOf(message) });
    },
  });

  const { authState, send, disconnect, reconnect } = connection;
  usePings(authState === "ready", send, backstage);

  const connect = () => {
    setWanted(login?.session ?? null);
    reconnect();
  };
  return {
    state: authState,
    session: connection.session,
    log,
    jwtLifetime,
    groups,
    send,
    connect,
    disconnect,
    tryNow: reconnect,
    note: (event, text) => dispatch(noteOf(event, text)),
    setMember: (group, isMember) => {
      setGroups(new Set(isMember ? [...groups, group] : [...groups].filter((other) => other !== group)));
      if (authState === "ready") send({ type: isMember ? "join" : "leave", group });
    },
    attempt: (plan) => {
      backstage.plan = plan;
      disconnect(); // wherever the connection stands by now: the next socket is to be that of this plan
      connect();
    },
  };
}

function usePings(isReady: boolean, send: (value: object) => boolean, backstage: Backstage): void {
  useEffect(() => {
    if (!isReady) return undefined;
    const timer = setInterval(() => send(backstage.ping()), PING_INTERVAL);
    return () => {
      clearInterval(timer);
      backstage.forgetPings();
    };
  }, [isReady, send, backstage]);
}

/** Groups are a connection's own: the next one joins them again. */
function rejoin(connection: Connection, groups: ReadonlySet<string>): void {
  for (const group of groups) connection.send({ type: "join", group });
}

function noteOf(event: "ready" | "renewed" | "login" | "logout" | "sabotage", text: string): LogEvent {
  return { type: "note", at: Date.now(), event, text };
}

function renewal(session: Session | null): string {
  const until = session?.expiresAt ? `, and the connection is good until ${formatTime(session.expiresAt * 1000)}` : "";
  return `The server said auth_expiring; a fresh JWT went over the live connection${until}.`;
}

function hasEndedLogin(close: Close): boolean {
  return close.reason === "revoked" || close.error instanceof LoggedOut;
}

/** One line for a message of `example_app/app.py`. */
function wordsOf(message: Record<string, any> & { type: Kind }): string {
  switch (message.type) {
    case "tick":
      return `number ${message.number} of this connection`;
    case "broadcast":
      return [
        `${message.online} online, ${message.key_id}`,
        `process ${message.process} up ${formatDuration(message.uptime)}`,
      ].join(", ");
    case "group":
      return `${message.from} to ${message.group}: ${message.message}`;
    case "session":
      return `${message.event}; in ${message.groups.length ? message.groups.join(" and ") : "no group"}`;
    default:
      return message.message;
  }
}
