// What only a page has: an address of its own, an online state, and sleep.
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Connection, socketUrl } from "tornado-wsauth";
import { fakeWebSocket, open, recorder } from "../client.js";
import { eventually, newSite } from "../site.js";

let online = true;

beforeEach(() => {
  online = true;
  vi.spyOn(navigator, "onLine", "get").mockImplementation(() => online);
});

afterEach(() => vi.useRealTimers());

function happens(type) {
  const event = document.createEvent("Event");
  event.initEvent(type, false, false);
  window.dispatchEvent(event);
}

function goOffline() {
  online = false;
  happens("offline");
}

function goOnline() {
  online = true;
  happens("online");
}

const soon = () => vi.advanceTimersByTimeAsync(0);

/** Returns a connection on fake sockets and in fake time, the newest socket by `newest()`. */
function make(options = {}) {
  vi.useFakeTimers();
  const FakeSocket = fakeWebSocket();
  let tokens = 0;
  const told = recorder(undefined, {
    url: "/ws/chat",
    WebSocket: FakeSocket,
    getJwt: () => "a.b.c",
    getToken: () => `token-${(tokens += 1)}`,
    retryInterval: 1000,
    timeout: 5000,
    ...options,
  });
  const connection = new Connection(told.options);
  onTestFinished(() => connection.disconnect());
  return { ...told, connection, FakeSocket, newest: () => FakeSocket.made.at(-1) };
}

/** Lets a page sleep: the clock goes on, and no timer comes. */
async function sleep(milliseconds) {
  vi.setSystemTime(Date.now() + milliseconds);
}

const jwtMessages = (socket) => socket.sent.filter((text) => JSON.parse(text).type === "jwt");

describe("the page's address", () => {
  test("completes a relative one", () => {
    expect(socketUrl("/ws/chat").href).toBe("ws://localhost:3000/ws/chat");
    expect(socketUrl("ws").href).toBe("ws://localhost:3000/ws");
    expect(socketUrl("//app.example/ws?x=1").href).toBe("ws://app.example/ws?x=1");
  });

  test("is where a relative url connects to, with the token", async () => {
    const { newest } = make({ url: "/ws/chat?room=1" });
    await soon();
    expect(newest().url).toBe("ws://localhost:3000/ws/chat?room=1&token=token-1");
  });
});

describe("in a page", () => {
  test("the global WebSocket, as it is when a socket is opened, is what the client uses", async () => {
    const site = await newSite();
    const made = vi.fn();
    vi.stubGlobal("WebSocket", class extends WebSocket {
      constructor(...args) {
        super(...args);
        made();
      }
    });
    const { connection } = open(site);
    await connection.ready;
    expect(made).toHaveBeenCalledOnce();
    connection.send("hello");
    await site.saw("message");
  });
});

describe("while the page is offline", () => {
  test("no wait ends", async () => {
    const { getJwt, connection } = make({ getJwt: () => Promise.reject(new Error("down")) });
    await soon();
    goOffline();
    await vi.advanceTimersByTimeAsync(300_000);
    expect(getJwt).toHaveBeenCalledTimes(1);
    expect(connection.state).toBe("waiting");
  });

  test("a wait that begins does not end, and when it is online again the client soon tries again", async () => {
    const { connection, newest, FakeSocket } = make();
    await soon();
    newest().welcomes();
    goOffline();
    newest().ends(1006);
    await vi.advanceTimersByTimeAsync(300_000);
    expect(connection.state).toBe("waiting");
    expect(FakeSocket.made).toHaveLength(1);
    goOnline();
    await vi.advanceTimersByTimeAsync(3000);
    expect(FakeSocket.made).toHaveLength(2);
    newest().welcomes();
    await soon();
    expect(connection.state).toBe("ready");
  });

  test("retryNow() and disconnect() do what they say", async () => {
    const { connection, getJwt } = make({ getJwt: () => Promise.reject(new Error("down")) });
    await soon();
    goOffline();
    await vi.advanceTimersByTimeAsync(60_000);
    connection.retryNow();
    await soon();
    expect(getJwt).toHaveBeenCalledTimes(2);
    connection.disconnect();
    goOnline();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(getJwt).toHaveBeenCalledTimes(2);
    expect(connection.state).toBe("stopped");
  });
});

describe("when the page is online again", () => {
  test("a client in a long wait tries again soon, not at the end of the wait", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    const { getJwt } = make({
      getJwt: () => Promise.reject(new Error("down")),
      retryInterval: 3_600_000,
      maxRetryInterval: 3_600_000,
    });
    await soon();
    goOffline();
    goOnline();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(getJwt).toHaveBeenCalledTimes(2);
  });

  test("a ready client asks with a fresh JWT whether its connection is still there", async () => {
    const { connection, newest, FakeSocket } = make();
    await soon();
    newest().welcomes();
    goOffline();
    goOnline();
    await vi.advanceTimersByTimeAsync(1000);
    expect(jwtMessages(newest())).toHaveLength(2);
    newest().says({ type: "auth_ok", user_id: "alice", expires_at: 2_000_000_001 });
    await vi.advanceTimersByTimeAsync(30_000);
    expect(connection.state).toBe("ready");
    expect(FakeSocket.made).toHaveLength(1);
  });

  test("a ready client that gets no answer in time closes its socket and connects anew", async () => {
    const { closes, newest, FakeSocket } = make();
    await soon();
    newest().welcomes();
    await soon();
    goOffline();
    goOnline();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(FakeSocket.made[0].closedWith).not.toBeNull();
    expect(closes[0]).toMatchObject({ during: "ready", reaction: "retry" });
    expect(FakeSocket.made).toHaveLength(2);
  });

  test("a client that was disconnected does nothing", async () => {
    const { connection, getJwt, newest } = make();
    await soon();
    newest().welcomes();
    connection.disconnect();
    goOffline();
    goOnline();
    await sleep(60_000);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(getJwt).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("after sleep", () => {
  test("a ready client asks with a fresh JWT whether its connection is still there", async () => {
    const { connection, newest } = make();
    await soon();
    newest().welcomes();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(jwtMessages(newest())).toHaveLength(1);
    await sleep(60_000);
    for (let seconds = 0; seconds < 15 && jwtMessages(newest()).length < 2; seconds += 1) {
      await vi.advanceTimersByTimeAsync(1000);
    }
    expect(jwtMessages(newest())).toHaveLength(2);
    newest().says({ type: "auth_ok", user_id: "alice", expires_at: 2_000_000_001 });
    await soon();
    expect(connection.session.expiresAt).toBe(2_000_000_001);
    expect(connection.state).toBe("ready");
  });

  test("a ready client that gets no answer connects anew", async () => {
    const { newest, FakeSocket, closes } = make();
    await soon();
    newest().welcomes();
    await vi.advanceTimersByTimeAsync(30_000);
    await sleep(3_600_000);
    await vi.advanceTimersByTimeAsync(25_000);
    expect(FakeSocket.made[0].closedWith).not.toBeNull();
    expect(closes[0]).toMatchObject({ reaction: "retry" });
    expect(FakeSocket.made.length).toBeGreaterThan(1);
  });

  test("of less than a few seconds nothing is asked", async () => {
    const { newest } = make();
    await soon();
    newest().welcomes();
    for (let nap = 0; nap < 5; nap += 1) {
      await vi.advanceTimersByTimeAsync(12_000);
      await sleep(4000);
    }
    await vi.advanceTimersByTimeAsync(12_000);
    expect(jwtMessages(newest())).toHaveLength(1);
  });
});

describe("in a tab that is awake and online", () => {
  test("nobody is asked for a JWT in an hour without need", async () => {
    const { newest, getJwt } = make();
    await soon();
    newest().welcomes();
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(getJwt).toHaveBeenCalledTimes(1);
    await eventually(() => expect(newest().closedWith).toBeNull());
  });
});
