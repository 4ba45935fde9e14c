// What a client does about each way in which a connection, or an attempt at one, can end: docs/protocol.md §5.
import { describe, expect, test, vi } from "vitest";
import { LoggedOut, Stopped, TryLater } from "tornado-wsauth";
import { open, recorder } from "../client.js";
import { eventually, newSite, settle } from "../site.js";

const FINAL = [4400, 4403, 4409, 1009, 1002, 1003, 1007, 1008, 1010];
const PASSING = [1000, 1001, 1011, 1012, 1013, 3000, 4408, 4429, 4000, 4402, 4999];

/** Plays a server that closes with this code instead of an auth_ok. */
async function closing(code, reason = "") {
  const site = await newSite();
  await site.play({ close: [code, reason] });
  return site;
}

describe("the client stops", () => {
  test.for(FINAL)("when a connection that was ready is closed with %d", async (code) => {
    const site = await newSite();
    const { connection, closes, getJwt } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", code, "why");
    const close = await connection.stopped;
    expect(close).toMatchObject({ code, reason: "why", during: "ready", reaction: "stop", retryIn: null });
    expect(closes).toEqual([close]);
    expect(connection.lastClose).toBe(close);
    expect(connection.state).toBe("stopped");
    await settle(site);
    expect(getJwt).toHaveBeenCalledOnce();
  });

  test.for(FINAL)("when the JWT is answered with %d", async (code) => {
    const site = await closing(code);
    const { connection } = open(site, { url: site.rude });
    await expect(connection.ready).rejects.toBeInstanceOf(Stopped);
    expect(connection.lastClose).toMatchObject({ code, during: "authenticating", reaction: "stop" });
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("when the server has logged the user out", async () => {
    const site = await newSite();
    const { connection } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("disconnect_user", "alice");
    expect(await connection.stopped).toMatchObject({ code: 4403, reason: "revoked" });
  });

  test("when the JWT is another user's than the token", async () => {
    const site = await newSite();
    const { getToken } = recorder(site);
    const bob = await site.makeJwt("bob");
    const { connection } = open(site, { getToken: ({ signal }) => getToken({ jwt: bob, signal }) });
    expect(await connection.stopped).toMatchObject({ code: 4403, reason: "user_mismatch" });
  });

  test.for(["getJwt", "getToken"])("when %s throws LoggedOut", async (name) => {
    const site = await newSite();
    const error = new LoggedOut("nobody is here");
    const { connection, getJwt } = open(site, { [name]: () => Promise.reject(error) });
    const refused = await connection.ready.catch((stopped) => stopped);
    expect(refused).toBeInstanceOf(Stopped);
    expect(await connection.stopped).toMatchObject({ code: null, error, during: "connecting", reaction: "stop" });
    await settle(site);
    expect(getJwt).toHaveBeenCalledOnce();
  });
});

describe("the client tries again", () => {
  test.for(PASSING)("when a connection that was ready is closed with %d", async (code) => {
    const site = await newSite();
    const { connection, closes } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", code, "why");
    await site.saw("open", 2);
    expect(closes).toMatchObject([{ code, reason: "why", during: "ready", reaction: "retry" }]);
    expect(closes[0].retryIn).toBeGreaterThanOrEqual(0);
  });

  test.for(PASSING)("when the JWT is answered with %d", async (code) => {
    const site = await closing(code);
    open(site, { url: site.rude });
    await site.saw("upgrade", 3);
  });

  test("when a close frame has no code", async () => {
    const site = await newSite();
    const { connection, closes } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets");
    await site.saw("open", 2);
    expect(closes).toMatchObject([{ code: 1005, reaction: "retry" }]);
  });

  test("when the connection breaks without a close frame", async () => {
    const site = await newSite();
    const { connection, closes } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("cut_sockets");
    await site.saw("open", 2);
    expect(closes).toMatchObject([{ code: 1006, reaction: "retry" }]);
  });

  test("until a server that was stopped is there again, on its port", async () => {
    const site = await newSite();
    const { connection, closes, states } = open(site);
    await connection.ready;
    await site.tell("stop");
    await eventually(() => expect(closes.length).toBeGreaterThan(3));
    expect(closes.slice(1)).toMatchObject(closes.slice(1).map(() => ({ code: null, reason: "token_unavailable" })));
    await site.tell("start");
    await eventually(() => expect(connection.state).toBe("ready"));
    expect(states.filter((state) => state === "ready")).toHaveLength(2);
  });

  test("when the server restarts in good order", async () => {
    const site = await newSite();
    const { connection, closes } = open(site);
    await connection.ready;
    await site.saw("open");
    await site.tell("shut_down", true);
    await eventually(() => expect(closes[0]).toMatchObject({ code: 1012, reason: "restart", reaction: "retry" }));
    await site.tell("stop");
    await site.tell("start");
    connection.retryNow();
    await site.saw("open", 2);
  });

  test("when the handshake is refused, of which a page learns nothing but 1006", async () => {
    const site = await newSite();
    let times = 0;
    const { closes } = open(site, { getToken: () => `unknown-${(times += 1)}` });
    await site.saw("refused", 3);
    expect(closes[0]).toMatchObject({ code: 1006, during: "connecting", reaction: "retry" });
  });

  test.for(["getJwt", "getToken"])("when %s fails, and says why", async (name) => {
    const site = await newSite();
    const { [name]: working } = recorder(site);
    const error = new Error("the network is down");
    const answers = [() => Promise.reject(error), () => { throw error; }, working];
    const { connection, closes } = open(site, { [name]: (context) => answers.shift()(context) });
    await connection.ready;
    const reason = { getJwt: "jwt_unavailable", getToken: "token_unavailable" }[name];
    expect(closes).toHaveLength(2);
    for (const close of closes) {
      expect(close).toMatchObject({ code: null, reason, error, during: "connecting", reaction: "retry" });
    }
  });

  test.for([undefined, null, "", 7, {}])("when getToken returns %o, which is no token", async (token) => {
    const site = await newSite();
    const { closes } = open(site, { getToken: () => token });
    await eventually(() => expect(closes[0]).toMatchObject({ reason: "token_unavailable", reaction: "retry" }));
    expect(await site.events("upgrade")).toEqual([]);
  });

  test.for([undefined, null, "", 7, {}])("when getJwt returns %o, which is no JWT", async (jwt) => {
    const site = await newSite();
    const { closes, getToken } = open(site, { getJwt: () => jwt });
    await eventually(() => expect(closes[0]).toMatchObject({ reason: "jwt_unavailable", reaction: "retry" }));
    expect(getToken).not.toHaveBeenCalled();
  });

  test.for(["getJwt", "getToken"])("not before the time that a TryLater of %s names", async (name) => {
    const site = await newSite();
    const { closes, connection } = open(site, { [name]: () => Promise.reject(new TryLater("busy", 90)) });
    await eventually(() => expect(closes).toHaveLength(1));
    expect(closes[0].retryIn).toBeGreaterThanOrEqual(90_000);
    expect(closes[0].retryIn).toBeLessThan(125_000);
    expect(connection.state).toBe("waiting");
  });
});

describe("after 4401", () => {
  test("jwt_expired of a connection that was ready, it fetches new credentials at once", async () => {
    const site = await newSite();
    const { connection, closes } = open(site, { retryInterval: 30_000, getJwt: () => site.makeJwt("alice", 10) });
    await connection.ready;
    await site.saw("open");
    await site.tell("hang", "authenticate"); // no renewal arrives in time
    await site.tell("advance", 11);
    await eventually(() => expect(closes).toMatchObject([{ code: 4401, reason: "jwt_expired", retryIn: 0 }]));
    await site.tell("release", "authenticate");
    await site.saw("open", 2);
  });

  test("jwt_expired of a JWT that was old already, it backs off, again and again", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    const site = await newSite();
    const good = await site.makeJwt();
    const { getToken } = recorder(site);
    const { closes } = open(site, {
      retryInterval: 4,
      maxRetryInterval: 16,
      getJwt: () => site.makeJwt("alice", -5),
      getToken: ({ signal }) => getToken({ jwt: good, signal }),
    });
    await eventually(() => expect(closes.length).toBeGreaterThan(3));
    expect(closes[0]).toMatchObject({ code: 4401, reason: "jwt_expired", during: "authenticating" });
    expect(closes.slice(0, 4).map(({ retryIn }) => Math.ceil(retryIn))).toEqual([4, 8, 16, 16]);
  });

  test("jwt_invalid, it tries once more, and then stops", async () => {
    const site = await newSite();
    const { getToken } = recorder(site);
    const good = await site.makeJwt();
    const { connection, closes, getJwt } = open(site, {
      getJwt: () => "not.a.jwt",
      getToken: ({ signal }) => getToken({ jwt: good, signal }),
    });
    expect(await connection.stopped).toMatchObject({ code: 4401, reason: "jwt_invalid", reaction: "stop" });
    expect(closes.map(({ reaction }) => reaction)).toEqual(["retry", "stop"]);
    expect(getJwt).toHaveBeenCalledTimes(2);
  });

  test("token_invalid, it tries once more, and then stops", async () => {
    const site = await newSite({ refuse: "close" });
    let times = 0;
    const { connection, closes } = open(site, { getToken: () => `unknown-${(times += 1)}` });
    expect(await connection.stopped).toMatchObject({ code: 4401, reason: "token_invalid" });
    expect(closes.map(({ reaction }) => reaction)).toEqual(["retry", "stop"]);
    expect(await site.events("upgrade")).toHaveLength(2);
  });

  test("jwt_invalid and then token_invalid, it stops: once is once", async () => {
    const site = await newSite();
    await site.play({ close: [4401, "jwt_invalid"] });
    const { connection, closes } = open(site, {
      url: site.rude,
      onClose: () => site.play({ close: [4401, "token_invalid"] }),
      retryInterval: 100,
    });
    await connection.stopped;
    expect(closes.map(({ reaction }) => reaction)).toEqual(["retry", "stop"]);
  });

  test("it may try once more again when there was an auth_ok in between", async () => {
    const site = await newSite();
    const { getToken } = recorder(site);
    const good = await site.makeJwt();
    const jwts = ["bad.1.x", good, "bad.2.x", good, "bad.3.x", "bad.4.x"];
    const { connection, closes } = open(site, {
      getJwt: () => jwts.shift(),
      getToken: ({ signal }) => getToken({ jwt: good, signal }),
    });
    for (const times of [1, 2]) {
      await site.saw("open", times);
      await eventually(() => expect(connection.state).toBe("ready"));
      await site.tell("close_sockets", 1012);
      await eventually(() => expect(connection.state).not.toBe("ready"));
    }
    await connection.stopped;
    expect(jwts).toEqual([]);
    expect(closes.map(({ code }) => code)).toEqual([4401, 1012, 4401, 1012, 4401, 4401]);
  });
});

describe("retries", () => {
  test.for([0, 1, 3])("says how many more attempts in a row there are: %d", async (retries) => {
    const site = await closing(1011, "internal");
    const { connection, closes } = open(site, { url: site.rude, retries });
    expect(await connection.stopped).toMatchObject({ code: 1011, reaction: "stop", retryIn: null });
    expect(closes).toHaveLength(retries + 1);
    expect(await site.events("upgrade")).toHaveLength(retries + 1);
  });

  test("counts anew after an auth_ok, not after an open", async () => {
    const site = await newSite();
    const { connection, closes } = open(site, { retries: 1 });
    await connection.ready;
    for (const times of [1, 2, 3]) {
      await site.saw("open", times);
      await site.tell("close_sockets", 1012);
      await eventually(() => expect(closes).toHaveLength(times));
    }
    await site.saw("open", 4);
    await site.tell("stop");
    await connection.stopped;
    expect(closes).toHaveLength(5);
  });
});

describe("decide", () => {
  test("has the last word for a retry", async () => {
    const site = await newSite();
    const decide = vi.fn(() => "retry");
    const { connection, closes } = open(site, { decide });
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", 4403, "forbidden");
    await site.saw("open", 2);
    expect(decide.mock.calls[0][0]).toMatchObject({ code: 4403, reason: "forbidden", during: "ready" });
    expect(closes).toMatchObject([{ reaction: "retry" }]);
    expect(closes[0].retryIn).toBeGreaterThanOrEqual(0);
  });

  test("has the last word for a stop", async () => {
    const site = await newSite();
    const { connection } = open(site, { decide: () => "stop" });
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", 1012, "restart");
    expect(await connection.stopped).toMatchObject({ code: 1012, reaction: "stop", retryIn: null });
  });

  test("leaves it at the usual with undefined", async () => {
    const site = await closing(4400, "bad_message");
    const { connection } = open(site, { url: site.rude, decide: () => undefined });
    expect(await connection.stopped).toMatchObject({ code: 4400, reaction: "stop" });
  });

  test("can keep a client going after LoggedOut and after the last retry", async () => {
    const site = await newSite();
    const { connection, closes } = open(site, {
      retries: 0,
      getJwt: () => Promise.reject(new LoggedOut("nobody")),
      decide: () => (closes.length < 3 ? "retry" : "stop"),
    });
    await connection.stopped;
    expect(closes.map(({ reaction }) => reaction)).toEqual(["retry", "retry", "retry", "stop"]);
  });
});
