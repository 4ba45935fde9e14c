// How long a client waits, without a server: the sockets are fakes, and so is the time.
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { Connection, TryLater } from "tornado-wsauth";
import { fakeWebSocket, recorder } from "../client.js";

let FakeSocket;
let tokens;

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => vi.useRealTimers());
  FakeSocket = fakeWebSocket();
  tokens = 0;
});

/** Returns a connection whose credentials come at once. */
function make(options = {}) {
  const told = recorder(undefined, {
    url: "ws://fake.example/ws",
    retryInterval: 1000,
    maxRetryInterval: 30_000,
    WebSocket: FakeSocket,
    getJwt: () => "a.b.c",
    getToken: () => `token-${(tokens += 1)}`,
    ...options,
  });
  const connection = new Connection(told.options);
  onTestFinished(() => connection.disconnect());
  return { ...told, connection };
}

const unreachable = () => Promise.reject(new Error("down"));

/** Lets what waits for nothing but promises happen. */
const soon = () => vi.advanceTimersByTimeAsync(0);

describe("a wait", () => {
  test("is at most retryInterval at first, and twice as long each time, up to maxRetryInterval", async () => {
    vi.spyOn(Math, "random").mockReturnValue(1 - 1e-9);
    const { closes } = make({ getJwt: unreachable });
    await vi.advanceTimersByTimeAsync(200_000);
    const waits = closes.map(({ retryIn }) => Math.round(retryIn));
    expect(waits.slice(0, 8)).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  test("may be as short as nothing: full jitter", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0);
    const { closes } = make({ getJwt: unreachable, retries: 5 });
    await vi.advanceTimersByTimeAsync(100);
    expect(closes.map(({ retryIn }) => retryIn)).toEqual([0, 0, 0, 0, 0, null]);
  });

  test("is spread evenly over its range", async () => {
    const { closes } = make({ getJwt: unreachable, retryInterval: 1000, maxRetryInterval: 1000, retries: 600 });
    await vi.advanceTimersByTimeAsync(600_000);
    const waits = closes.map(({ retryIn }) => retryIn).filter((wait) => wait !== null);
    expect(waits).toHaveLength(600);
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1000);
    // Each tenth of the range gets 60 of them, with a standard deviation of 7.3.
    for (let tenth = 0; tenth < 1000; tenth += 100) {
      const count = waits.filter((wait) => wait >= tenth && wait < tenth + 100).length;
      expect(count, `waits from ${tenth} ms`).toBeGreaterThan(15);
    }
  });

  test("lasts as long as onClose was told, to the millisecond", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.75);
    const { connection, closes, getJwt } = make({ getJwt: unreachable });
    await soon();
    expect(closes).toMatchObject([{ retryIn: 750 }]);
    expect(connection.state).toBe("waiting");
    await vi.advanceTimersByTimeAsync(749);
    expect(getJwt).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(getJwt).toHaveBeenCalledTimes(2);
  });

  test("has defaults: a second at first, half a minute at most", async () => {
    vi.spyOn(Math, "random").mockReturnValue(1 - 1e-9);
    const { closes } = make({ getJwt: unreachable, retryInterval: undefined, maxRetryInterval: undefined });
    await vi.advanceTimersByTimeAsync(200_000);
    expect(Math.round(closes[0].retryIn)).toBe(1000);
    expect(Math.round(closes.at(-1).retryIn)).toBe(30_000);
  });

  test("goes on without end by default", async () => {
    const { connection, closes } = make({ getJwt: unreachable });
    await vi.advanceTimersByTimeAsync(24 * 3600 * 1000);
    expect(closes.length).toBeGreaterThan(2000);
    expect(closes.at(-1).retryIn).toBeLessThanOrEqual(30_000);
    expect(connection.state).toBe("waiting");
  });

  test("grows while sockets open and nobody is let in", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    const { closes } = make();
    for (const wait of [500, 1000, 2000, 4000]) {
      await soon();
      FakeSocket.made.at(-1).happens("open");
      FakeSocket.made.at(-1).ends(1011);
      await vi.advanceTimersByTimeAsync(wait);
    }
    expect(closes.map(({ retryIn }) => retryIn)).toEqual([500, 1000, 2000, 4000]);
  });

  test("begins small again after an auth_ok", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    const failing = [unreachable, unreachable, unreachable];
    const { closes } = make({ getJwt: () => (failing.shift() ?? (() => "a.b.c"))() });
    await vi.advanceTimersByTimeAsync(3500);
    FakeSocket.made.at(-1).welcomes();
    FakeSocket.made.at(-1).ends(1012);
    await soon();
    expect(closes.map(({ retryIn }) => retryIn)).toEqual([500, 1000, 2000, 500]);
  });

  test("is as long as a TryLater says where that is longer, beyond maxRetryInterval", async () => {
    const { closes, getJwt } = make({ getJwt: () => Promise.reject(new TryLater("busy", 45)) });
    await soon();
    expect(closes[0].retryIn).toBeGreaterThanOrEqual(45_000);
    await vi.advanceTimersByTimeAsync(44_999);
    expect(getJwt).toHaveBeenCalledTimes(1);
  });

  test("ends at once with retryNow(), and the timer is gone", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    const { connection, getJwt } = make({ getJwt: unreachable, retryInterval: 20_000 });
    await soon();
    connection.retryNow();
    await soon();
    expect(getJwt).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(19_900);
    expect(getJwt).toHaveBeenCalledTimes(2);
  });

  test("is the only time for retryNow(): while connecting or ready it changes nothing", async () => {
    const { connection, getJwt } = make();
    connection.retryNow();
    await soon();
    connection.retryNow();
    FakeSocket.made[0].welcomes();
    connection.retryNow();
    await soon();
    expect(getJwt).toHaveBeenCalledTimes(1);
    expect(FakeSocket.made).toHaveLength(1);
    connection.disconnect();
    connection.retryNow();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(getJwt).toHaveBeenCalledTimes(1);
  });
});

describe("a renewal that fails", () => {
  const expiring = { type: "auth_expiring", expires_in: 30 };

  test("is tried again after waits that double, however often the server warns, until the end", async () => {
    vi.spyOn(Math, "random").mockReturnValue(1 - 1e-9);
    const jwts = ["a.b.c"];
    const { connection, getJwt } = make({ getJwt: () => jwts.shift() ?? unreachable() });
    await soon();
    FakeSocket.made[0].welcomes();
    FakeSocket.made[0].says(expiring);
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.made[0].says(expiring);
    await vi.advanceTimersByTimeAsync(6400);
    expect(getJwt).toHaveBeenCalledTimes(4); // and after 1, 3 and 7 seconds
    await vi.advanceTimersByTimeAsync(100);
    expect(getJwt).toHaveBeenCalledTimes(5);
    connection.disconnect();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(getJwt).toHaveBeenCalledTimes(5);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("leaves no JWT being fetched beside that of the next attempt, when its connection breaks", async () => {
    const answers = [];
    let underWay = 0;
    const { connection, getJwt } = make({
      retryInterval: 0,
      getJwt: ({ signal }) => {
        underWay += 1;
        signal.addEventListener("abort", () => (underWay -= 1));
        return new Promise((resolve) => answers.push(resolve)).finally(() => (underWay -= 1));
      },
    });
    await soon();
    answers[0]("a.b.c");
    await soon();
    FakeSocket.made[0].welcomes();
    await soon();
    connection.renew().catch(() => {});
    FakeSocket.made[0].ends(1006);
    await vi.advanceTimersByTimeAsync(50);
    expect(getJwt.mock.calls.length).toBeGreaterThanOrEqual(2);
    expect(underWay).toBe(1);
    answers.at(-1)("d.e.f");
    await soon();
    FakeSocket.made[1].welcomes();
    expect(JSON.parse(FakeSocket.made[1].sent[0])).toEqual({ type: "jwt", token: "d.e.f" });
  });

  test("is not tried again before the time that a TryLater names", async () => {
    const jwts = ["a.b.c"];
    const { getJwt } = make({ getJwt: () => jwts.shift() ?? Promise.reject(new TryLater("busy", 20)) });
    await soon();
    FakeSocket.made[0].welcomes();
    FakeSocket.made[0].says(expiring);
    await vi.advanceTimersByTimeAsync(19_000);
    expect(getJwt).toHaveBeenCalledTimes(2);
  });
});

describe("a message that is queued", () => {
  test("stays so when the server has begun to close by the time of its auth_ok", async () => {
    const { connection } = make();
    connection.send("kept");
    await soon();
    const [socket] = FakeSocket.made;
    socket.happens("open");
    socket.readyState = FakeSocket.CLOSING;
    socket.says({ type: "auth_ok", user_id: "alice", expires_at: null });
    socket.ends(1012);
    await soon();
    expect(socket.sent).not.toContain("kept");
    expect(connection.unsent).toEqual(["kept"]);
  });
});

describe("a step that takes too long", () => {
  test("ends after ten seconds by default, and getJwt's signal is aborted then, not before", async () => {
    const { getJwt, getToken, closes } = make({ getJwt: () => new Promise(() => {}) });
    await vi.advanceTimersByTimeAsync(9_990);
    const [[{ signal }]] = getJwt.mock.calls;
    expect(signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(10);
    expect(signal.aborted).toBe(true);
    expect(closes).toMatchObject([{ code: null, reason: "jwt_unavailable", reaction: "retry" }]);
    expect(getToken).not.toHaveBeenCalled();
  });

  test("each has the whole time: three slow steps make a connection", async () => {
    const slowly = (value) => () => new Promise((resolve) => setTimeout(resolve, 900, value));
    const { connection } = make({ timeout: 1000, getJwt: slowly("a.b.c"), getToken: slowly("token") });
    await vi.advanceTimersByTimeAsync(1800);
    await vi.advanceTimersByTimeAsync(900);
    FakeSocket.made[0].happens("open");
    await vi.advanceTimersByTimeAsync(900);
    FakeSocket.made[0].says({ type: "auth_ok", user_id: "alice", expires_at: null });
    expect(connection.state).toBe("ready");
  });

  test("of getToken ends it: token_unavailable, and the signal is aborted", async () => {
    const { getToken, closes } = make({ timeout: 500, getToken: () => new Promise(() => {}) });
    await vi.advanceTimersByTimeAsync(500);
    expect(getToken.mock.calls[0][0].signal.aborted).toBe(true);
    expect(closes).toMatchObject([{ code: null, reason: "token_unavailable", during: "connecting" }]);
    expect(FakeSocket.made).toEqual([]);
  });

  test("of the url's function ends it: url_unavailable", async () => {
    const { closes } = make({ timeout: 500, url: () => new Promise(() => {}) });
    await vi.advanceTimersByTimeAsync(600);
    expect(closes).toMatchObject([{ code: null, reason: "url_unavailable", reaction: "retry" }]);
  });

  test("of the upgrade closes the socket: timeout", async () => {
    const { closes } = make({ timeout: 500 });
    await vi.advanceTimersByTimeAsync(500);
    expect(closes).toMatchObject([{ reason: "timeout", during: "connecting", reaction: "retry" }]);
    expect(FakeSocket.made[0].closedWith).not.toBeNull();
  });

  test("of the answer to the JWT closes the socket: timeout", async () => {
    const { closes } = make({ timeout: 500 });
    await soon();
    FakeSocket.made[0].happens("open");
    await vi.advanceTimersByTimeAsync(499);
    expect(closes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(closes).toMatchObject([{ reason: "timeout", during: "authenticating", reaction: "retry" }]);
    expect(FakeSocket.made[0].closedWith).not.toBeNull();
  });

  test("is over for good: what comes of it later is not used", async () => {
    const answers = [];
    const { getToken, connection } = make({
      timeout: 500,
      retryInterval: 0,
      getJwt: () => new Promise((resolve) => answers.push(resolve)),
    });
    await vi.advanceTimersByTimeAsync(510);
    expect(answers).toHaveLength(2);
    answers[0]("late.late.late");
    await soon();
    expect(getToken).not.toHaveBeenCalled();
    answers[1]("in.time.ok");
    await soon();
    expect(getToken.mock.calls).toMatchObject([[{ jwt: "in.time.ok" }]]);
    FakeSocket.made[0].welcomes();
    expect(connection.state).toBe("ready");
  });

  test("is over for good: a socket that was given up can say what it likes", async () => {
    const { connection, messages, closes } = make({ timeout: 500, retryInterval: 0 });
    await vi.advanceTimersByTimeAsync(510);
    expect(FakeSocket.made).toHaveLength(2);
    FakeSocket.made[0].welcomes("mallory");
    FakeSocket.made[0].says("hello");
    FakeSocket.made[0].ends(4403);
    expect(connection.state).toBe("connecting");
    expect(FakeSocket.made[0].sent).toEqual([]);
    expect(messages).toEqual([]);
    expect(closes).toHaveLength(1);
    FakeSocket.made[1].welcomes();
    expect(connection.session.userId).toBe("alice");
  });

  test.for([
    ["ready", {}],
    ["waiting", { getJwt: unreachable }],
    ["fetching the JWT", { getJwt: () => new Promise(() => {}) }],
    ["fetching the token", { getToken: () => new Promise(() => {}) }],
  ])("leaves no timer behind when it is disconnected while %s", async ([where, options]) => {
    const { connection } = make(options);
    await soon();
    if (where === "ready") FakeSocket.made[0].welcomes();
    connection.disconnect();
    await soon();
    expect(vi.getTimerCount()).toBe(0);
  });
});
