// The protocol, as a client speaks it: two HTTP requests, one WebSocket, one first message. Nothing here knows the
// page. `runs.js` strings these calls together; an application of yours can use them as they are.

/** An HTTP answer that was not 200. `status` is 0 when no answer came at all. */
export class HttpError extends Error {
  constructor(status, error) {
    super(status ? `HTTP ${status} ${error}` : "the server does not answer");
    this.status = status;
    this.error = error;
  }
}

/** The WebSocket ended before the client was let in. */
export class ClosedError extends Error {
  constructor({ code, reason }) {
    super(`closed with ${code} ${reason}`.trimEnd());
    this.code = code;
    this.reason = reason;
  }
}

/** Step 1. Return `{user_id, jwt, expires_in}`. */
export function logIn(username, password) {
  return post("login", { body: JSON.stringify({ username, password }) });
}

/** Step 2. Exchange the JWT for a connection token: return `{token, expires_in}`. */
export function requestToken(jwt, path = "ws/token") {
  return post(path, { headers: { Authorization: `Bearer ${jwt}` } });
}

/** Log out everywhere: every open socket of this user closes. */
export function logOut(jwt) {
  return post("logout", { headers: { Authorization: `Bearer ${jwt}` } });
}

/** Whether anybody is there to talk to. A refused upgrade and a dead server look the same to a page: both are 1006. */
export async function isServerThere() {
  try {
    await fetch("config.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

/** One WebSocket, from the upgrade to the close. */
export class Connection {
  /** Called with each message after `auth_ok`, parsed. */
  onMessage = () => {};
  /** How many messages came before `auth_ok`. The server's promise is that this stays 0. */
  earlyMessages = 0;
  /** Resolves with the CloseEvent, whoever closes and whenever. */
  closed;

  #socket;
  #isIn = false;
  #accept;
  #accepted = new Promise((resolve) => {
    this.#accept = resolve;
  });

  /** Step 3. Connect with `token` (null: with none), and resolve once the upgrade is through. */
  static async open(token) {
    const url = new URL("demo", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (token !== null) url.searchParams.set("token", token);
    const connection = new Connection(new WebSocket(url));
    await connection.#orClosed(new Promise((resolve) => connection.#socket.addEventListener("open", resolve)));
    return connection;
  }

  constructor(socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.addEventListener("close", resolve));
    // From the very start: a message that came too early must be seen, too.
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
  }

  /** Steps 4 and 5. Send the JWT and resolve with `auth_ok`. */
  authenticate(jwt) {
    this.#socket.send(JSON.stringify({ type: "jwt", token: jwt }));
    return this.#orClosed(this.#accepted);
  }

  /** Go on for as long as another JWT of the same user says; the server answers with `auth_ok`, as a message. */
  renew(jwt) {
    this.#socket.send(JSON.stringify({ type: "jwt", token: jwt }));
  }

  send(text) {
    this.#socket.send(text);
  }

  close() {
    this.#socket.close(1000);
  }

  #receive(message) {
    if (this.#isIn) {
      this.onMessage(message);
    } else if (message.type === "auth_ok") {
      this.#isIn = true;
      this.#accept(message);
    } else {
      this.earlyMessages += 1;
    }
  }

  #orClosed(promise) {
    const end = this.closed.then((event) => {
      throw new ClosedError(event);
    });
    return Promise.race([promise, end]);
  }
}

async function post(path, init) {
  let response;
  try {
    response = await fetch(path, { method: "POST", cache: "no-store", signal: AbortSignal.timeout(10_000), ...init });
  } catch {
    throw new HttpError(0, "");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new HttpError(response.status, body.error ?? "");
  return body;
}
