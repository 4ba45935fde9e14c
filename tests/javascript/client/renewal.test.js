// A JWT for the connection that is there already: docs/protocol.md §4.
import { describe, expect, test, vi } from "vitest";
import { LoggedOut } from "tornado-wsauth";
import { deferred, open } from "../client.js";
import { eventually, newSite, settle } from "../site.js";

const AUTH_OK = { type: "auth_ok", user_id: "alice", expires_at: 2_000_000_000 };
const EXPIRING = { type: "auth_expiring", expires_in: 30 };

/** Returns a connection that is ready at a server which says only what a test lets it say. */
async function rudely(options) {
  const site = await newSite();
  await site.play({ on_message: [JSON.stringify(AUTH_OK)] });
  let tokens = 0;
  const opened = open(site, { url: site.rude, getToken: () => `token-${(tokens += 1)}`, ...options });
  await opened.connection.ready;
  await site.play({});
  const says = (...messages) => site.tell("send", ...messages.map((message) => JSON.stringify(message)));
  return { site, says, ...opened };
}

/** Returns the JWTs that a rude server got, the first message's among them. */
async function jwtsAt(site) {
  return (await site.messages()).map((text) => JSON.parse(text)).filter(({ type }) => type === "jwt");
}

describe("when the server says auth_expiring", () => {
  test("a fresh JWT goes over the live connection, which lives on", async () => {
    const site = await newSite();
    const { connection, getJwt, getToken, messages, closes, steps } = open(site, {
      getJwt: () => site.makeJwt("alice", 100),
    });
    await connection.ready;
    await site.saw("open");
    const { expiresAt } = connection.session;
    await site.tell("advance", 80);
    await eventually(() => expect(connection.session.expiresAt).toBe(expiresAt + 80));
    await site.tell("advance", 50);
    await settle(site);
    expect(connection.state).toBe("ready");
    expect(getJwt.mock.calls.length).toBeGreaterThanOrEqual(2);
    expect(getToken).toHaveBeenCalledOnce();
    expect(closes).toEqual([]);
    expect(messages).toEqual([]);
    expect(steps.slice(0, 7)).toEqual(["jwt", "token", "upgrade", "authenticate", "ready", "renew", "renewed"]);
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("twice while a JWT is being fetched, one is fetched and one is sent", async () => {
    const jwts = [() => "first", () => new Promise((resolve) => { answer = resolve; })];
    let answer;
    const { site, says, getJwt } = await rudely({ getJwt: () => jwts.shift()() });
    await says(EXPIRING, EXPIRING);
    await eventually(() => expect(answer).toBeDefined());
    await says(EXPIRING);
    answer("second");
    await site.saw("message", 2);
    await settle(site);
    expect(getJwt).toHaveBeenCalledTimes(2);
    expect(await jwtsAt(site)).toEqual([{ type: "jwt", token: "first" }, { type: "jwt", token: "second" }]);
  });

  test("and the JWT cannot be had, it is asked for again while the connection lives", async () => {
    const jwts = ["first", new Error("down"), new Error("down"), "second"];
    const { site, says, connection, getJwt, closes } = await rudely({
      getJwt: () => {
        const jwt = jwts.shift();
        if (typeof jwt !== "string") throw jwt;
        return jwt;
      },
    });
    await says(EXPIRING);
    await site.saw("message", 2);
    expect(await jwtsAt(site)).toMatchObject([{ token: "first" }, { token: "second" }]);
    await says(AUTH_OK);
    await settle(site);
    expect(getJwt).toHaveBeenCalledTimes(4);
    expect(connection.state).toBe("ready");
    expect(closes).toEqual([]);
  });

  test("and getJwt throws LoggedOut, the connection stops, and its socket is closed", async () => {
    const jwts = ["first"];
    let asked = 0;
    const getJwt = () => {
      asked += 1;
      return jwts.shift() ?? Promise.reject(new LoggedOut("gone"));
    };
    const { site, says, connection } = await rudely({ getJwt });
    await says(EXPIRING);
    await eventually(() => expect(connection.state).toBe("stopped"));
    expect(await connection.stopped).toMatchObject({ reaction: "stop", error: expect.any(LoggedOut) });
    await site.isEmpty();
    expect(asked).toBe(2);
  });

  test("and the new JWT is another user's, the connection stops", async () => {
    const site = await newSite();
    const users = ["alice", "bob"];
    const { connection } = open(site, { getJwt: () => site.makeJwt(users.shift(), 100) });
    await connection.ready;
    await site.saw("open");
    await site.tell("advance", 80);
    expect(await connection.stopped).toMatchObject({ code: 4403, reason: "user_mismatch", during: "ready" });
  });
});

describe("renew()", () => {
  test("sends a fresh JWT and resolves to the new session", async () => {
    const site = await newSite();
    const lifetimes = [100, 500];
    const { connection } = open(site, { getJwt: () => site.makeJwt("alice", lifetimes.shift()) });
    await connection.ready;
    const before = connection.session;
    const session = await connection.renew();
    expect(session).toEqual({ userId: "alice", expiresAt: before.expiresAt + 400 });
    expect(connection.session).toEqual(session);
  });

  test("called several times at once sends one JWT, and all resolve at its answer", async () => {
    const { site, says, connection, getJwt } = await rudely();
    const renewals = [connection.renew(), connection.renew(), connection.renew()];
    await site.saw("message", 2);
    await says({ ...AUTH_OK, expires_at: 2_000_000_100 });
    const sessions = await Promise.all(renewals);
    expect(sessions.map(({ expiresAt }) => expiresAt)).toEqual(Array(3).fill(2_000_000_100));
    await settle(site);
    expect(getJwt).toHaveBeenCalledTimes(2);
    expect(await jwtsAt(site)).toHaveLength(2);
  });

  test("calls getJwt with a signal of its own, that disconnect() aborts", async () => {
    const jwts = [() => "first", () => new Promise(() => {})];
    const { connection, getJwt } = await rudely({ getJwt: () => jwts.shift()() });
    const renewal = connection.renew();
    await eventually(() => expect(getJwt).toHaveBeenCalledTimes(2));
    const { signal } = getJwt.mock.calls[1][0];
    expect(signal.aborted).toBe(false);
    connection.disconnect();
    expect(signal.aborted).toBe(true);
    await expect(renewal).rejects.toBeInstanceOf(Error);
  });

  test("rejects when the connection breaks before the answer", async () => {
    const { site, connection } = await rudely();
    const renewal = connection.renew();
    renewal.catch(() => {});
    await site.saw("message", 2);
    await site.tell("cut_sockets");
    await expect(renewal).rejects.toBeInstanceOf(Error);
  });

  test("rejects when there is no connection to renew", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const { connection } = open(site);
    await expect(connection.renew()).rejects.toBeInstanceOf(Error);
    connection.disconnect();
    await expect(connection.renew()).rejects.toBeInstanceOf(Error);
  });

  test("that is not answered in time is a lost connection: closed, and another is made", async () => {
    const { site, connection, closes } = await rudely({ timeout: 150 });
    await site.play({ on_message: [] });
    const renewal = connection.renew();
    await expect(renewal).rejects.toBeInstanceOf(Error);
    await eventually(() => expect(closes[0]).toMatchObject({ reason: "timeout", reaction: "retry" }));
    await site.saw("upgrade", 2);
    await site.saw("close");
  });
});

describe("an auth_ok", () => {
  test("that nobody asked for is the application's message", async () => {
    const { says, connection, messages } = await rudely();
    const { session } = connection;
    const forged = { ...AUTH_OK, user_id: "mallory" };
    await says(AUTH_OK, forged);
    await eventually(() => expect(messages).toHaveLength(2));
    expect(messages.map((text) => JSON.parse(text))).toEqual([AUTH_OK, forged]);
    expect(connection.session).toEqual(session);
  });

  test("of another user while a renewal is under way is the application's, and no answer", async () => {
    const { site, says, connection, messages } = await rudely();
    const renewal = connection.renew();
    const settled = vi.fn();
    renewal.then(settled, settled);
    await site.saw("message", 2);
    await says({ ...AUTH_OK, user_id: "mallory" });
    await eventually(() => expect(messages).toHaveLength(1));
    expect(settled).not.toHaveBeenCalled();
    expect(connection.session.userId).toBe("alice");
    await says({ ...AUTH_OK, expires_at: 2_000_000_009 });
    expect(await renewal).toEqual({ userId: "alice", expiresAt: 2_000_000_009 });
    expect(messages).toHaveLength(1);
  });

  test("while the JWT of a renewal is only being fetched is the application's", async () => {
    const later = deferred();
    const jwts = [() => "first", () => later.promise];
    const { site, says, connection, messages } = await rudely({ getJwt: () => jwts.shift()() });
    const renewal = connection.renew();
    await says(AUTH_OK);
    await eventually(() => expect(messages).toHaveLength(1));
    later.resolve("second");
    await site.saw("message", 2);
    await says(AUTH_OK);
    await renewal;
    expect(messages).toHaveLength(1);
  });
});

describe("the application's messages", () => {
  test("arrive in order, whatever they look like, with their events; the protocol's do not", async () => {
    const seen = [];
    const { says, site, messages } = await rudely({ onMessage: (data, event) => seen.push(event.data === data) });
    await says({ type: "news" }, EXPIRING, [1], "text", 7, null, { type: "auth_okay" });
    await eventually(() => expect(messages).toHaveLength(6));
    expect(messages.map((text) => JSON.parse(text))).toEqual([
      { type: "news" }, [1], "text", 7, null, { type: "auth_okay" },
    ]);
    expect(seen).toEqual(Array(6).fill(true));
    await site.tell("send", "not { JSON");
    await eventually(() => expect(messages.at(-1)).toBe("not { JSON"));
  });

  test("sent while the JWT is renewed stay in order and are not held back", async () => {
    const site = await newSite();
    const { connection } = open(site);
    await connection.ready;
    connection.send("one");
    const renewal = connection.renew();
    connection.send("two");
    await renewal;
    connection.send("three");
    await site.saw("message", 3);
    expect(await site.messages()).toEqual(["one", "two", "three"]);
  });
});
