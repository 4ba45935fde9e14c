// useAuthWebSocket(): a connection for as long as a component is mounted.
import { version } from "react";
import { version as domVersion } from "react-dom";
import { act, waitFor } from "@testing-library/react";
import { describe, expect, inject, test } from "vitest";
import { LoggedOut } from "tornado-wsauth";
import { useAuthWebSocket } from "tornado-wsauth/react";
import { deferred, recorder } from "../client.js";
import { eventually, newSite, settle } from "../site.js";
import { mountAt } from "./mount.js";

const ready = ({ result }) => waitFor(() => expect(result.current.readyState).toBe(true));

/** Waits for what the network does, with React's updates done. */
const inAct = (doIt) => act(async () => doIt());

test("the React that runs here is the one of this project", () => {
  expect(version).toBe(domVersion);
  expect(Number.parseInt(version, 10)).toBe(inject("react"));
});

describe("a mounted component", () => {
  test("connects, and knows its state, its session and the newest message", async () => {
    const site = await newSite();
    const before = Date.now();
    const page = mountAt(useAuthWebSocket, site);
    expect(page.renders[0]).toMatchObject({ readyState: false, data: undefined, lastClose: null, session: null });
    expect(page.renders[0].authState).toBe("connecting");
    await ready(page);
    expect(page.result.current.authState).toBe("ready");
    expect(page.result.current.session).toMatchObject({ userId: "alice", expiresAt: expect.any(Number) });
    await site.saw("open");
    await site.tell("send", '{"type": "news", "n": 1}');
    await waitFor(() => expect(page.result.current.data?.message).toEqual({ type: "news", n: 1 }));
    expect(page.result.current.data.timestamp).toBeGreaterThanOrEqual(before);
    expect(page.result.current.data.timestamp).toBeLessThanOrEqual(Date.now());
    await site.tell("send", "plain text");
    await waitFor(() => expect(page.result.current.data.message).toBe("plain text"));
  });

  test("gives onMessage each of several messages, and none of the protocol's", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    await site.saw("open");
    await site.tell("send", '"1"', '"2"', '"3"');
    await waitFor(() => expect(page.messages).toHaveLength(3));
    await waitFor(() => expect(page.result.current.data.message).toBe("3"));
  });

  test("sends, and says whether it could", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const page = mountAt(useAuthWebSocket, site, { maxQueue: 1 });
    expect(page.result.current.send({ text: "queued" })).toBe(true);
    expect(page.result.current.send("too many")).toBe(false);
    await site.tell("release", "token");
    await ready(page);
    expect(page.result.current.send("text")).toBe(true);
    await site.saw("message", 2);
    const [first, second] = await site.messages();
    expect(JSON.parse(first)).toEqual({ text: "queued" });
    expect(JSON.parse(second)).toBe("text");
    page.unmount();
    expect(page.result.current.send("late")).toBe(false);
  });

  test("sends bytes as they are", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    page.result.current.send(new Uint8Array([1, 2]));
    await site.saw("message");
    expect(await site.messages()).toEqual([[1, 2]]);
  });

  test("shows how a connection ended, and comes back", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    await site.saw("open");
    await site.tell("close_sockets", 1012, "restart");
    await waitFor(() => expect(page.result.current.lastClose).toMatchObject({ code: 1012, reaction: "retry" }));
    await ready(page);
    expect(await site.events("open")).toHaveLength(2);
  });

  test("calls the newest functions, and reconnects for none of them", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    await site.saw("open");
    const newest = recorder(site);
    page.rerender(recorder(site).options);
    page.rerender(newest.options);
    await settle(site);
    expect(await site.events("upgrade")).toHaveLength(1);
    await inAct(() => site.tell("send", '"hello"'));
    await waitFor(() => expect(newest.messages).toHaveLength(1));
    await inAct(() => site.tell("close_sockets", 1012));
    await site.saw("open", 2);
    await ready(page);
    expect(newest.getJwt).toHaveBeenCalledOnce();
    expect(newest.getToken).toHaveBeenCalledOnce();
    expect(newest.closes).toHaveLength(1);
    expect(newest.states).toContain("ready");
    expect(page.getJwt).toHaveBeenCalledOnce();
    expect(page.messages).toEqual([]);
  });

  test.for([
    ["url", (site) => ({ url: `${site.chat}?room=2` })],
    ["protocols", () => ({ protocols: ["chat"] })],
    ["user", () => ({ user: "bob" })],
    ["timeout", () => ({ timeout: 9000 })],
  ])("makes one new connection, with a new token, when %s changes", async ([, change]) => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site, { user: "alice" });
    await ready(page);
    await site.saw("open");
    page.rerender({ ...page.options, ...change(site) });
    await site.saw("open", 2);
    await ready(page);
    expect(page.getJwt).toHaveBeenCalledTimes(2);
    expect(page.getToken).toHaveBeenCalledTimes(2);
    await eventually(async () => expect(await site.sockets()).toBe(1));
    expect((await site.saw("close"))[0].code).toBe(1000);
  });

  test("makes no new connection for the same url and protocols in other objects", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site, { url: new URL(site.chat), protocols: ["chat"] });
    await ready(page);
    page.rerender({ ...page.options, url: new URL(site.chat), protocols: ["chat"] });
    page.rerender({ ...page.options, url: site.chat, protocols: ["chat"] });
    await settle(site);
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("forgets the session and the messages of the user before", async () => {
    const site = await newSite();
    let user = "alice";
    const page = mountAt(useAuthWebSocket, site, { user, getJwt: () => site.makeJwt(user) });
    await ready(page);
    await site.saw("open");
    await site.tell("send", '"for alice"');
    await waitFor(() => expect(page.result.current.data?.message).toBe("for alice"));
    await site.tell("hang", "token");
    user = "bob";
    page.rerender({ ...page.options, user });
    await waitFor(() => expect(page.result.current.readyState).toBe(false));
    expect(page.result.current.session).toBeNull();
    expect(page.result.current.data).toBeUndefined();
    await site.tell("release", "token");
    await waitFor(() => expect(page.result.current.session?.userId).toBe("bob"));
  });

  test("connects only while it is enabled", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site, { enabled: false });
    await settle(site);
    expect(page.result.current.authState).toBe("stopped");
    expect(page.result.current.send("nobody hears it")).toBe(false);
    expect(page.getJwt).not.toHaveBeenCalled();
    page.rerender({ ...page.options, enabled: true });
    await ready(page);
    page.rerender({ ...page.options, enabled: false });
    await waitFor(() => expect(page.result.current.authState).toBe("stopped"));
    await site.isEmpty();
    expect(page.result.current.readyState).toBe(false);
    expect(page.getJwt).toHaveBeenCalledOnce();
  });

  test("can disconnect and reconnect", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    await inAct(() => page.result.current.disconnect());
    await waitFor(() => expect(page.result.current.authState).toBe("stopped"));
    expect(page.result.current.readyState).toBe(false);
    await site.isEmpty();
    page.rerender({ ...page.options });
    await settle(site);
    expect(page.getJwt).toHaveBeenCalledOnce();
    await inAct(() => page.result.current.reconnect());
    await ready(page);
    expect(await site.sockets()).toBe(1);
    expect(page.getJwt).toHaveBeenCalledTimes(2);
  });

  test("can reconnect after a stop, and at once instead of waiting", async () => {
    const site = await newSite();
    const answers = [new LoggedOut("gone"), new Error("down")];
    const page = mountAt(useAuthWebSocket, site, {
      retryInterval: 3_600_000,
      maxRetryInterval: 3_600_000,
      getJwt: () => (answers.length > 0 ? Promise.reject(answers.shift()) : site.makeJwt()),
    });
    await waitFor(() => expect(page.result.current.authState).toBe("stopped"));
    await inAct(() => page.result.current.reconnect());
    await waitFor(() => expect(page.result.current.authState).toBe("waiting"));
    await inAct(() => page.result.current.reconnect());
    await ready(page);
    expect(page.getJwt).toHaveBeenCalledTimes(3);
  });

  test("stays as it is when it is told to reconnect while it is connecting or ready", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const page = mountAt(useAuthWebSocket, site);
    await inAct(() => site.saw("token"));
    await inAct(() => page.result.current.reconnect());
    await site.tell("release", "token");
    await ready(page);
    await inAct(() => page.result.current.reconnect());
    await inAct(() => settle(site));
    expect(page.result.current.authState).toBe("ready");
    expect(await site.events("token")).toHaveLength(1);
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("keeps send, disconnect and reconnect the same from render to render", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site);
    await ready(page);
    page.rerender({ ...page.options });
    for (const name of ["send", "disconnect", "reconnect"]) {
      expect(new Set(page.renders.map((result) => result[name])).size, name).toBe(1);
    }
  });
});

describe("in StrictMode, which mounts twice", () => {
  test("one JWT is fetched, one token spent and one socket opened", async () => {
    const site = await newSite();
    const page = mountAt(useAuthWebSocket, site, {}, { strict: true });
    await ready(page);
    await settle(site);
    expect(page.getJwt).toHaveBeenCalledOnce();
    expect(page.getToken).toHaveBeenCalledOnce();
    expect(await site.events("token")).toHaveLength(1);
    expect(await site.events("upgrade")).toHaveLength(1);
    expect(await site.sockets()).toBe(1);
    page.unmount();
    await site.isEmpty();
  });
});

/** For each step: the options that keep a component there, how to know, and what lets it go on. */
const STEPS = {
  "the JWT is fetched": async (site, show) => {
    const jwt = deferred();
    const page = show({ getJwt: () => jwt.promise });
    await eventually(() => expect(page.getJwt).toHaveBeenCalled());
    return { page, goOn: () => jwt.resolve("a.b.c") };
  },
  ...Object.fromEntries(
    [["the token is fetched", "token"], ["the socket opens", "upgrade"], ["the JWT is checked", "authenticate"]].map(
      ([words, step]) => [words, async (site, show) => {
        await site.tell("hang", step);
        const page = show();
        await inAct(() => site.saw(step));
        return { page, goOn: () => site.tell("release", step) };
      }],
    ),
  ),
  "it is ready": async (site, show) => {
    const page = show();
    await ready(page);
    await site.saw("open");
    return { page, goOn: () => site.tell("send", "hello") };
  },
  "it waits": async (site, show) => {
    const page = show({ getJwt: () => Promise.reject(new Error("down")), retryInterval: 30 });
    await waitFor(() => expect(page.result.current.authState).toBe("waiting"));
    return { page, goOn: () => {} };
  },
};

describe("unmounting while", () => {
  test.for(Object.entries(STEPS))("%s leaves no socket, and calls nothing further", async ([, reach]) => {
    const site = await newSite();
    const { page, goOn } = await reach(site, (overrides) => mountAt(useAuthWebSocket, site, overrides));
    const told = () => [page.states, page.closes, page.steps, page.messages, page.renders].map((list) => list.length);
    const called = () => [page.getJwt, page.getToken].map(({ mock }) => mock.calls.length);
    const before = [told(), called()];
    page.unmount();
    await goOn();
    await settle(site);
    await site.isEmpty();
    await settle(site);
    expect([told(), called()]).toEqual(before);
  });
});
