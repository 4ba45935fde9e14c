/** Where a connection stands. `ready` begins with the server's `auth_ok`; only `stopped` is final. */
export type State = "connecting" | "authenticating" | "ready" | "waiting" | "stopped";

/**
 * What a connection is doing, in more detail than `State`: `jwt` and `token` fetch credentials, `upgrade` opens the
 * socket, `authenticate` has sent the JWT, `ready` has its `auth_ok`, `renew` and `renewed` are a JWT for the live
 * connection.
 */
export type Step = "jwt" | "token" | "upgrade" | "authenticate" | "ready" | "renew" | "renewed";

/** What is done about the end of an attempt or a connection. */
export type Reaction = "stop" | "retry";

/** How an attempt, or a connection that was ready, ended. */
export interface Close {
  /** The close code (RFC 6455 §7.4), or null if there was no socket yet: credentials could not be had. */
  readonly code: number | null;
  /**
   * The server's reason string, or one of ours: `jwt_unavailable`, `token_unavailable` and `url_unavailable` (a
   * function failed or took too long), `bad_url` (no WebSocket can be opened there), `timeout` (no answer in time),
   * `bad_server` (something else than `auth_ok` came first), `spent_token` (`getToken` gave one that was used before),
   * `disconnected` (by `disconnect()`).
   */
  readonly reason: string;
  /** A sentence for a person. */
  readonly words: string;
  /** Where the connection stood. */
  readonly during: State;
  readonly reaction: Reaction;
  /** Milliseconds until the next attempt, or null if there is none. */
  readonly retryIn: number | null;
  /** What was thrown while fetching credentials. */
  readonly error?: unknown;
}

/** What the server says in `auth_ok`. */
export interface Session {
  readonly userId: string;
  /** When the JWT expires, in Unix seconds, or null. */
  readonly expiresAt: number | null;
}

export type Outgoing = string | ArrayBuffer | ArrayBufferView<ArrayBuffer> | Blob | object;

export interface ConnectOptions {
  /** The socket: `/ws/chat`, `wss://…` or `https://…`, without a token. A function is asked for each attempt. */
  url: string | URL | (() => string | URL | Promise<string | URL>);
  /** Returns the user's JWT. Called for each attempt and each renewal; nothing it returns is kept. */
  getJwt: (context: { signal: AbortSignal }) => string | Promise<string>;
  /** Returns a new connection token. Called for each attempt. `tokenFrom(url)` makes one. */
  getToken: (context: { jwt: string; signal: AbortSignal }) => string | Promise<string>;
  /** WebSocket subprotocols. */
  protocols?: string | string[];
  /** The query argument that the token goes into; `"token"` unless the server says otherwise. */
  tokenParam?: string;
  /** Milliseconds that each step may take: the JWT, the token, the upgrade, the answer to the JWT. 10,000. */
  timeout?: number;
  /** How many times in a row it tries again; `auth_ok` starts the count again. Infinity. */
  retries?: number;
  /** Milliseconds: the first wait is a random time up to this one, each further one up to twice as long. 1,000. */
  retryInterval?: number;
  /** Milliseconds: no wait is longer, but for a server's `Retry-After`. 30,000. */
  maxRetryInterval?: number;
  /** What `send()` does before `auth_ok` and between connections. `"queue"`. */
  whenNotReady?: "queue" | "throw";
  /** How many messages wait at most; one more, and `send()` throws. 100. */
  maxQueue?: number;
  binaryType?: BinaryType;
  /** Disconnects when aborted. */
  signal?: AbortSignal;
  /** The class to open sockets with, where there is no global one: `ws` in Node.js before 22. */
  WebSocket?: typeof globalThis.WebSocket;
  /** Called with each message of the application; the protocol's own are not among them. */
  onMessage?: (data: any, event: MessageEvent) => void;
  /** Called when the state changes. What is sent when it becomes `ready` goes before what was queued. */
  onState?: (state: State, connection: Connection) => void;
  /** Called when an attempt or a connection ends, with what will be done about it. */
  onClose?: (close: Close, connection: Connection) => void;
  /** Called with each step, as it begins. */
  onStep?: (step: Step, connection: Connection) => void;
  /** Called to have the last word on what is done about an end: `"stop"`, `"retry"`, or undefined for the usual. */
  decide?: (close: Close) => Reaction | undefined;
}

/**
 * A connection that authenticates itself, and does so again when it breaks.
 * It begins to connect at once. A wrong option is a `TypeError`.
 */
export class Connection {
  constructor(options: ConnectOptions);
  readonly state: State;
  /** Whose connection it is, once it was ready. */
  readonly session: Session | null;
  /** How the last attempt or connection ended. */
  readonly lastClose: Close | null;
  /** What `send()` has queued and nobody has sent. After a stop it stays here, so that nothing is lost unseen. */
  readonly unsent: readonly Outgoing[];
  /** Resolves at the first `auth_ok`; rejects with `Stopped` if the connection stops before. */
  readonly ready: Promise<Connection>;
  /** Resolves when the connection has stopped for good. */
  readonly stopped: Promise<Close>;
  /**
   * Sends text and bytes as they are, other objects as JSON. Throws `NotReady` if it can do neither now nor later:
   * the connection has stopped, the queue is full, or `whenNotReady` is `"throw"`.
   */
  send(data: Outgoing): void;
  /** Sends a fresh JWT on the live connection. Resolves at the server's `auth_ok`; rejects if none comes. */
  renew(): Promise<Session>;
  /** Ends a wait now. */
  retryNow(): void;
  /** Closes, forgets the credentials' functions and never connects again. */
  disconnect(): void;
}

/** Connects, and resolves to the connection once it is ready. Rejects with `Stopped` if it never will be. */
export function connect(options: ConnectOptions): Promise<Connection>;

/**
 * Returns a `getToken` that POSTs to this URL with the JWT as Bearer. `fetch` options are taken as they are:
 * `{credentials: "include", headers: {"X-XSRFToken": …}}` for logins by cookie.
 */
export function tokenFrom(url: string | URL, init?: RequestInit): ConnectOptions["getToken"];

/** Returns the address as a WebSocket's: a relative one is the page's, `https:` becomes `wss:`. Throws `TypeError`. */
export function socketUrl(address: string | URL): URL;

/** What a close code means, for a person. */
export function describeClose(code: number | null, reason?: string): string;

/** Thrown by `getJwt` or `getToken`: nobody is logged in, and another attempt is of no use. The connection stops. */
export class LoggedOut extends Error {}

/** Thrown by `getJwt` or `getToken`: not now. The next attempt comes after `retryAfter` seconds, or later. */
export class TryLater extends Error {
  constructor(message: string, retryAfter: number);
  readonly retryAfter: number;
}

/** A connection has stopped; `close` says how. */
export class Stopped extends Error {
  readonly close: Close;
}

/** `send()` could neither send nor queue. */
export class NotReady extends Error {}
