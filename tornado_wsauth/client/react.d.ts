import type { Close, ConnectOptions, Connection, Session, State } from "./wsauth.js";

/** A message that came, and when, in milliseconds since 1970. JSON is parsed; anything else is as it came. */
export interface Data<Message = any> {
  message: Message;
  timestamp: number;
}

export interface LiteResult<Message = any> {
  /** Sends the JSON of a value (bytes as they are), now or once ready. Returns whether it could be sent or queued. */
  send: (value: any) => boolean;
  /** The newest message. React renders the last of several that come at once: `onMessage` gets each, unparsed. */
  data: Data<Message> | undefined;
  /** Whether the client is authenticated. */
  readyState: boolean;
}

export interface AuthResult<Message = any> extends LiteResult<Message> {
  authState: State;
  /** How the last attempt or connection ended; null until one has. */
  lastClose: Close | null;
  /** Who the server says this is, while it is known. */
  session: Session | null;
  /** Stop, until `reconnect()` or a change of `enabled`, `url` or `protocols`. */
  disconnect: () => void;
  /** Start again after a stop, or at once instead of waiting. */
  reconnect: () => void;
}

export interface UseAuthWebSocketOptions extends Omit<ConnectOptions, "signal"> {
  /** False: do not connect (nobody is logged in yet). `authState` is then `"stopped"`. True. */
  enabled?: boolean;
  /**
   * Whose connection this is, where the page knows: a change is a new connection, as it must be after another login.
   */
  user?: string | null;
}

/**
 * A connection for as long as the component is mounted.
 *
 * Functions may be new on each render: the newest is called, and nothing reconnects for it. A change of `url` (as
 * text), `protocols`, `user`, `enabled` or of a number among the options is a new connection. The one before ends
 * without an `onClose`, and what it had queued is dropped with it.
 */
export function useAuthWebSocket<Message = any>(options: UseAuthWebSocketOptions): AuthResult<Message>;

export interface UseWebSocketLiteOptions extends Omit<Partial<UseAuthWebSocketOptions>, "url" | "protocols"> {
  /** The socket. With a token in it, it is good for one connection: then there are no retries. See `getToken`. */
  socketUrl: ConnectOptions["url"];
  protocol?: string | string[];
  /** How many attempts in a row may fail; 3. */
  retry?: number;
  /** Milliseconds; 1,500. As `retryInterval` of `ConnectOptions`. */
  retryInterval?: number;
  /**
   * The first message: `{type: "jwt", token: …}`, or a function that returns it, or a promise of it. With `getJwt`,
   * anything else, or a function that returns it: it is then sent after each `auth_ok`, before what `send()` has
   * queued.
   */
  initPayload?: unknown;
}

/**
 * The interface of the hook of this name that many pages have a copy of, with the two steps inside.
 * Raises a `TypeError` if there is neither `getJwt` nor a JWT in `initPayload`.
 */
export function useWebSocketLite<Message = any>(options: UseWebSocketLiteOptions): LiteResult<Message>;

export type { Close, Connection, ConnectOptions, Session, State };
