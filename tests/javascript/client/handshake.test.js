// From nothing to `auth_ok`: the two steps, in their order, with credentials that are fetched for each attempt.
import { describe, expect, test, vi } from "vitest";
import { connect, Connection, Stopped } from "tornado-wsauth";
import { open, recorder } from "../client.js";
import { eventually, newSite, settle } from "../site.js";

describe("a connection", () => {
  test("fetches the JWT, then the token, opens the socket, sends the JWT, and is ready at auth_ok", async () => {
    const site = await newSite();
    const { connection, steps, states } = open(site);
    expect(connection.state).toBe("connecting");
    expect(await connection.ready).toBe(connection);
    expect(steps).toEqual(["jwt", "token", "upgrade", "authenticate", "ready"]);
    expect(states.filter((state) => state !== "connecting")).toEqual(["authenticating", "ready"]);
    const events = (await site.saw("open"), await site.events());
    expect(events.map(({ event }) => event)).toEqual(["token", "token answered", "upgrade", "authenticate", "open"]);
  });

  test("is not ready while the server still checks the JWT", async () => {
    const site = await newSite();
    await site.tell("hang", "authenticate");
    const { connection, states } = open(site);
    await site.saw("authenticate");
    expect(connection.state).toBe("authenticating");
    expect(connection.session).toBeNull();
    expect(states).not.toContain("ready");
    await site.tell("release", "authenticate");
    await connection.ready;
    expect(connection.state).toBe("ready");
  });

  test("hands the JWT to getToken, with a signal that is not aborted", async () => {
    const site = await newSite();
    const jwt = await site.makeJwt();
    const { connection, getJwt, getToken } = open(site, { getJwt: () => jwt });
    await connection.ready;
    expect(getJwt.mock.calls).toEqual([[{ signal: expect.any(AbortSignal) }]]);
    expect(getToken.mock.calls).toEqual([[{ jwt, signal: expect.any(AbortSignal) }]]);
    expect(getJwt.mock.calls[0][0].signal.aborted).toBe(false);
    expect(getToken.mock.calls[0][0].signal.aborted).toBe(false);
  });

  test("sends the JWT as its first message, and nothing before", async () => {
    const site = await newSite();
    const { connection } = open(site, { url: site.rude, getJwt: () => "a.b.c", getToken: () => "t" });
    connection.send("later");
    await site.saw("message");
    await settle(site);
    expect((await site.messages()).map((text) => JSON.parse(text))).toEqual([{ type: "jwt", token: "a.b.c" }]);
  });

  test("adds the token to a query that the address has already", async () => {
    const site = await newSite();
    open(site, { url: `${site.rude}?room=a%26b`, getJwt: () => "a.b.c", getToken: () => "one+/=&two" });
    const [{ query }] = await site.saw("upgrade");
    expect([...new URLSearchParams(query)]).toEqual([["room", "a&b"], ["token", "one+/=&two"]]);
  });

  test("puts the token where tokenParam says", async () => {
    const site = await newSite({ token_param: "ticket" });
    const { connection } = open(site, { tokenParam: "ticket" });
    await connection.ready;
    expect((await site.saw("open")).length).toBe(1);
  });

  test("knows whose it is and until when", async () => {
    const site = await newSite();
    const jwt = await site.makeJwt("bob", 600);
    const { connection } = open(site, { getJwt: () => jwt });
    await connection.ready;
    const { exp } = JSON.parse(Buffer.from(jwt.split(".")[1], "base64url"));
    expect(connection.session).toEqual({ userId: "bob", expiresAt: exp });
  });

  test("has no expiry where the server names none", async () => {
    const site = await newSite();
    await site.play({ on_message: ['{"type": "auth_ok", "user_id": "alice", "expires_at": null}'] });
    const { connection } = open(site, { url: site.rude });
    await connection.ready;
    expect(connection.session).toEqual({ userId: "alice", expiresAt: null });
  });

  test("offers the subprotocols", async () => {
    const site = await newSite();
    const { connection } = open(site, { protocols: ["chat.v2", "chat.v1"] });
    await connection.ready;
    expect((await site.saw("open"))[0].subprotocol).toBe("chat.v2");
  });

  test("hands bytes to the page in the way that binaryType says", async () => {
    const site = await newSite();
    const { connection, messages } = open(site, { binaryType: "arraybuffer" });
    await connection.ready;
    await site.saw("open");
    await site.tell("send_bytes", 1, 2, 255);
    await eventually(() => expect(messages).toHaveLength(1));
    expect([...new Uint8Array(messages[0])]).toEqual([1, 2, 255]);
  });

  test("opens its sockets with the class it is given", async () => {
    const site = await newSite();
    const opened = vi.fn();
    class Mine extends WebSocket {
      constructor(...args) {
        super(...args);
        opened();
      }
    }
    await open(site, { WebSocket: Mine }).connection.ready;
    expect(opened).toHaveBeenCalledOnce();
  });

  test("takes an https or http address for a socket's", async () => {
    const site = await newSite();
    await open(site, { url: new URL(site.chat.replace("ws:", "http:")) }).connection.ready;
    expect(await site.sockets()).toBe(1);
  });
});

describe("credentials", () => {
  test("are fetched anew for each attempt, and no token is sent twice", async () => {
    const site = await newSite();
    const { connection, getJwt, getToken, closes } = open(site);
    await connection.ready;
    for (const times of [1, 2, 3]) {
      await site.saw("open", times);
      await site.tell("close_sockets", 1012, "restart");
      await eventually(() => expect(closes).toHaveLength(times));
    }
    await site.saw("open", 4);
    expect(getJwt).toHaveBeenCalledTimes(4);
    const tokens = await Promise.all(getToken.mock.results.map(({ value }) => value));
    expect(new Set(tokens).size).toBe(4);
  });

  test("are never fetched twice at a time, whatever the page does meanwhile", async () => {
    const site = await newSite();
    let underWay = 0;
    let most = 0;
    const alone = (fetchIt) => async (context) => {
      most = Math.max(most, (underWay += 1));
      try {
        return await fetchIt(context);
      } finally {
        underWay -= 1;
      }
    };
    const { options } = recorder(site);
    const { connection } = open(site, { getJwt: alone(options.getJwt), getToken: alone(options.getToken) });
    for (let i = 0; i < 3; i += 1) {
      connection.retryNow();
      connection.renew().catch(() => {});
    }
    await connection.ready;
    await Promise.all([connection.renew(), connection.renew(), connection.renew()]);
    await site.tell("close_sockets", 1012);
    await site.saw("open", 2);
    expect(most).toBe(1);
  });

  test("are not kept where an inspection of the connection would find them", async () => {
    const site = await newSite();
    const { connection, getJwt, getToken } = open(site);
    await connection.ready;
    const { inspect } = await import("node:util");
    const looked = inspect(connection, { depth: 9, showHidden: true, getters: true });
    expect(looked).not.toContain(await getJwt.mock.results[0].value);
    expect(looked).not.toContain(await getToken.mock.results[0].value);
  });

  test("that getToken has given before are not sent again: spent_token, and another attempt", async () => {
    const site = await newSite();
    await site.play({ close: [1011, "internal"] });
    const tokens = ["one", "one", "one", "two"];
    const { closes } = open(site, { url: site.rude, getJwt: () => "a.b.c", getToken: () => tokens.shift() ?? "last" });
    const upgrades = await site.saw("upgrade", 2);
    expect(upgrades.slice(0, 2).map(({ query }) => query)).toEqual(["token=one", "token=two"]);
    expect(closes.slice(0, 3).map(({ reason, reaction }) => [reason, reaction])).toEqual([
      ["internal", "retry"],
      ["spent_token", "retry"],
      ["spent_token", "retry"],
    ]);
  });
});

describe("the address", () => {
  test("is asked for at each attempt where it is a function, and may be a promise", async () => {
    const site = await newSite();
    const url = vi.fn(async () => site.chat);
    const { connection } = open(site, { url });
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", 1012);
    await site.saw("open", 2);
    expect(url).toHaveBeenCalledTimes(2);
  });

  test("that cannot be had now is asked for again", async () => {
    const site = await newSite();
    const addresses = [() => Promise.reject(new Error("no")), () => site.chat];
    const { connection, closes } = open(site, { url: () => addresses.shift()() });
    await connection.ready;
    expect(closes).toMatchObject([{ code: null, reason: "url_unavailable", reaction: "retry" }]);
  });

  test("that no WebSocket can be opened at is a bad_url", async () => {
    const site = await newSite();
    const { closes } = open(site, { url: () => "ftp://127.0.0.1/ws" });
    await eventually(() => expect(closes[0]).toMatchObject({ code: null, reason: "bad_url" }));
  });
});

describe("a first message other than auth_ok", () => {
  const rudeness = {
    "text": "hello",
    "another type": '{"type": "news"}',
    "an array": '[{"type": "auth_ok", "user_id": "alice"}]',
    "null": "null",
    "a number": "7",
    "broken JSON": '{"type": "auth_ok", "user_id": "alice"',
    "an auth_ok without a user": '{"type": "auth_ok", "expires_at": 2000000000}',
    "auth_expiring": '{"type": "auth_expiring", "expires_in": 30}',
  };

  test.for(Object.entries(rudeness))("ends the connection for good: %s", async ([, text]) => {
    const site = await newSite();
    await site.play({ on_message: [text] });
    const { connection, messages } = open(site, { url: site.rude });
    await expect(connection.ready).rejects.toBeInstanceOf(Stopped);
    expect(await connection.stopped).toMatchObject({ reason: "bad_server", reaction: "stop", retryIn: null });
    expect(messages).toEqual([]);
    await site.isEmpty();
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("ends the connection for good even before the JWT was sent", async () => {
    const site = await newSite();
    await site.play({ on_open: ["welcome"] });
    const { connection } = open(site, { url: site.rude });
    expect(await connection.stopped).toMatchObject({ reason: "bad_server" });
  });

  test("ends the connection for good when it is bytes", async () => {
    const site = await newSite();
    const { connection } = open(site, { url: site.rude });
    await site.saw("message");
    await site.tell("send_bytes", 123, 125);
    expect(await connection.stopped).toMatchObject({ reason: "bad_server" });
  });
});

describe("connect()", () => {
  test("resolves to the connection once it is ready", async () => {
    const site = await newSite();
    const connection = await connect(recorder(site).options);
    expect(connection).toBeInstanceOf(Connection);
    expect(connection.state).toBe("ready");
    connection.disconnect();
  });

  test("rejects with Stopped, which says how, if it never will be", async () => {
    const site = await newSite();
    await site.play({ close: [4403, "forbidden"] });
    const refused = await connect(recorder(site, { url: site.rude }).options).catch((error) => error);
    expect(refused).toBeInstanceOf(Stopped);
    expect(refused.close).toMatchObject({ code: 4403, reason: "forbidden", during: "authenticating" });
    expect(refused.close.words).toMatch(/\w+ \w+/);
  });
});
