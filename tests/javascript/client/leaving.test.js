// disconnect(), in every step of a connection's life: nothing is left, and nothing is called any more.
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Connection, LoggedOut, Stopped } from "tornado-wsauth";
import { deferred, open, recorder } from "../client.js";
import { eventually, newSite, settle } from "../site.js";

/** For each step: what makes a connection stay there, and the promise that it got there. */
const STEPS = {
  "the JWT is fetched": async (site) => {
    const jwt = deferred();
    const opened = open(site, { getJwt: () => jwt.promise });
    await eventually(() => expect(opened.getJwt).toHaveBeenCalled());
    return { ...opened, goOn: () => jwt.resolve("a.b.c"), signalOf: opened.getJwt };
  },
  "the token is fetched": async (site) => {
    await site.tell("hang", "token");
    const opened = open(site);
    await site.saw("token");
    return { ...opened, goOn: () => site.tell("release", "token"), signalOf: opened.getToken };
  },
  "the url is asked for": async (site) => {
    const url = deferred();
    const opened = open(site, { url: () => url.promise });
    await eventually(() => expect(opened.steps.length).toBeGreaterThan(0));
    await settle(site);
    return { ...opened, goOn: () => url.resolve(site.chat) };
  },
  "the socket opens": async (site) => {
    await site.tell("hang", "upgrade");
    const opened = open(site);
    await site.saw("upgrade");
    return { ...opened, goOn: () => site.tell("release", "upgrade") };
  },
  "the JWT is checked": async (site) => {
    await site.tell("hang", "authenticate");
    const opened = open(site);
    await site.saw("authenticate");
    return { ...opened, goOn: () => site.tell("release", "authenticate") };
  },
  "it is ready": async (site) => {
    const opened = open(site);
    await opened.connection.ready;
    await site.saw("open");
    return { ...opened, goOn: () => site.tell("send", "hello") };
  },
  "it waits": async (site) => {
    const opened = open(site, { getJwt: () => Promise.reject(new Error("down")), retryInterval: 40 });
    await eventually(() => expect(opened.connection.state).toBe("waiting"));
    return { ...opened, goOn: () => opened.connection.retryNow() };
  },
};

describe("disconnect() while", () => {
  test.for(Object.entries(STEPS))("%s ends everything, at once", async ([name, reach]) => {
    const site = await newSite();
    const { connection, goOn, signalOf, getJwt, getToken, steps, states, closes, messages } = await reach(site);
    const refused = vi.fn();
    connection.ready.catch(refused);
    connection.disconnect();
    expect(connection.state).toBe("stopped");
    expect(await connection.stopped).toMatchObject({ reason: "disconnected", reaction: "stop", retryIn: null });
    if (signalOf !== undefined) expect(signalOf.mock.calls[0][0].signal.aborted).toBe(true);
    if (name !== "it is ready") await eventually(() => expect(refused).toHaveBeenCalledOnce());
    expect(states.at(-1)).toBe("stopped");
    const before = [getJwt, getToken].map((called) => called.mock.calls.length);
    const noted = [steps, states, closes, messages].map((list) => list.length);
    await goOn();
    await settle(site);
    await site.isEmpty();
    await settle(site);
    expect([getJwt, getToken].map((called) => called.mock.calls.length)).toEqual(before);
    expect([steps, states, closes, messages].map((list) => list.length)).toEqual(noted);
    expect(connection.state).toBe("stopped");
  });
});

describe("disconnect()", () => {
  test("closes the socket with 1000", async () => {
    const site = await newSite();
    const { connection } = open(site);
    await connection.ready;
    await site.saw("open");
    connection.disconnect();
    expect((await site.saw("close"))[0].code).toBe(1000);
  });

  test("is told to onClose and onState once, however often it is called", async () => {
    const site = await newSite();
    const { connection, closes, states } = open(site);
    await connection.ready;
    connection.disconnect();
    const close = await connection.stopped;
    connection.disconnect();
    await settle(site);
    expect(closes).toEqual([close]);
    expect(connection.lastClose).toBe(close);
    expect(close.during).toBe("ready");
    expect(states.filter((state) => state === "stopped")).toHaveLength(1);
  });

  test("does not change how a connection has stopped before", async () => {
    const site = await newSite();
    const { connection, closes } = open(site, { getJwt: () => Promise.reject(new LoggedOut("gone")) });
    const close = await connection.stopped;
    connection.disconnect();
    expect(await connection.stopped).toBe(close);
    expect(closes).toHaveLength(1);
  });

  test.for(["jwt", "token", "upgrade", "authenticate", "ready"])(
    "inside onStep at %s is heeded",
    async (where) => {
      const site = await newSite();
      const { connection, steps, states } = open(site, {
        onStep: (step, it) => step === where && it.disconnect(),
      });
      // The first step may come before the constructor has returned.
      await expect(connection.stopped).resolves.toMatchObject({ reason: "disconnected" });
      await settle(site);
      await site.isEmpty();
      expect(steps.at(-1)).toBe(where);
      expect(states.at(-1)).toBe("stopped");
      expect(await site.messages()).toEqual([]);
    },
  );

  test("inside onState at ready is heeded: nothing that was queued is sent", async () => {
    const site = await newSite();
    const { connection } = open(site, { onState: (state, it) => state === "ready" && it.disconnect() });
    connection.send("queued");
    await connection.stopped;
    await site.isEmpty();
    expect(await site.messages()).toEqual([]);
    expect(connection.unsent).toEqual(["queued"]);
  });

  test("inside onClose is heeded: there is no further attempt", async () => {
    const site = await newSite();
    const { connection, getJwt } = open(site, {
      onClose: ({ reaction }, it) => reaction === "retry" && it.disconnect(),
    });
    await connection.ready;
    await site.saw("open");
    await site.tell("close_sockets", 1012);
    await connection.stopped;
    await settle(site);
    expect(connection.state).toBe("stopped");
    expect(getJwt).toHaveBeenCalledOnce();
  });

  test("inside onMessage is heeded: no message comes after it", async () => {
    const site = await newSite();
    const { connection, messages } = open(site, { onMessage: () => connection.disconnect() });
    await connection.ready;
    await site.saw("open");
    await site.tell("send", "one", "two", "three");
    await connection.stopped;
    await site.isEmpty();
    expect(messages).toEqual(["one"]);
  });

  test("forgets the functions that fetch credentials", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc");
    const site = await newSite();
    const made = (() => {
      const secret = { getJwt: () => site.makeJwt(), getToken: () => new Promise(() => {}) };
      const connection = new Connection({ url: site.chat, ...secret });
      return { connection, getJwt: new WeakRef(secret.getJwt), getToken: new WeakRef(secret.getToken) };
    })();
    await site.tell("seen");
    made.connection.disconnect();
    await eventually(async () => {
      collect();
      await settle(site);
      expect(made.getJwt.deref()).toBeUndefined();
      expect(made.getToken.deref()).toBeUndefined();
    });
    expect(made.connection.state).toBe("stopped");
  });
});

describe("the signal option", () => {
  test("disconnects when it is aborted", async () => {
    const site = await newSite();
    const controller = new AbortController();
    const { connection } = open(site, { signal: controller.signal });
    await connection.ready;
    controller.abort();
    expect(await connection.stopped).toMatchObject({ reason: "disconnected" });
    await site.isEmpty();
  });

  test("that is aborted already keeps the client from calling anything", async () => {
    const site = await newSite();
    const { connection, getJwt } = open(site, { signal: AbortSignal.abort() });
    await expect(connection.ready).rejects.toBeInstanceOf(Stopped);
    await settle(site);
    expect(getJwt).not.toHaveBeenCalled();
    expect(connection.state).toBe("stopped");
  });
});

describe("whoever awaits nothing", () => {
  test("gets no unhandled rejection, however it ends", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    onTestFinished(() => process.off("unhandledRejection", unhandled));
    const site = await newSite();
    await site.play({ close: [4403, "forbidden"] });
    const make = (options) => new Connection(recorder(site, options).options);
    const connections = [
      make({ url: site.rude }),
      make({ getJwt: () => Promise.reject(new LoggedOut("gone")) }),
      make({ getJwt: () => Promise.reject(new Error("down")), retries: 1 }),
      make({ url: () => Promise.reject(new Error("down")), retries: 1 }),
      make({ getToken: () => new Promise(() => {}), timeout: 20, retries: 0 }),
      make({ getJwt: ({ signal }) => new Promise((_, reject) => { signal.onabort = reject; }) }),
    ];
    connections.at(-1).renew().catch(() => {});
    connections.at(-1).disconnect();
    await Promise.all(connections.map((connection) => connection.stopped));
    const ready = make();
    await ready.ready;
    ready.disconnect();
    await settle(site);
    expect(unhandled).not.toHaveBeenCalled();
  });
});
