// bokeh-wsauth.js
import { Connection, tokenFrom } from "/wsauth/wsauth.js";

const PlainWebSocket = window.WebSocket;

async function getJwt() {
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const answer = await fetch("/ws/jwt", { method: "POST", headers: { "X-XSRFToken": xsrf } });
  if (!answer.ok) throw new Error(`/ws/jwt answered ${answer.status}`);
  return answer.text();
}

/** What BokehJS takes for a WebSocket. It opens when the server has said `auth_ok`. */
class AuthenticatedWebSocket {
  readyState = PlainWebSocket.CONNECTING;
  #connection;

  constructor(url, protocols) {
    this.#connection = new Connection({
      url,
      protocols,
      getJwt,
      getToken: tokenFrom("/ws/token"),
      binaryType: "arraybuffer",
      WebSocket: PlainWebSocket,
      decide: () => "stop", // BokehJS tries again by itself, with another of these
      onState: (state) => state === "ready" && this.#opened(),
      onMessage: (data, event) => this.onmessage?.(event),
      onClose: (close) => this.#closed(close),
    });
  }

  send(data) {
    if (this.readyState === PlainWebSocket.OPEN) this.#connection.send(data);
  }

  close() {
    this.#connection.disconnect();
  }

  #opened() {
    this.readyState = PlainWebSocket.OPEN;
    this.onopen?.(new Event("open"));
  }

  #closed({ code, reason }) {
    this.readyState = PlainWebSocket.CLOSED;
    this.onclose?.(new CloseEvent("close", { code: code ?? 1006, reason }));
  }
}

function isOurs(url, protocols) {
  return [protocols].flat()[0] === "bokeh" && new URL(url, location).host === location.host;
}

window.WebSocket = new Proxy(PlainWebSocket, {
  construct(plain, given, target) {
    return isOurs(...given) ? new AuthenticatedWebSocket(...given) : Reflect.construct(plain, given, target);
  },
});
