// useWebSocketLite(): the interface that many pages have a copy of, with the two steps inside.
import { waitFor } from "@testing-library/react";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { tokenFrom } from "tornado-wsauth";
import { useWebSocketLite } from "tornado-wsauth/react";
import { fakeWebSocket } from "../client.js";
import { newSite, settle } from "../site.js";
import { mount } from "./mount.js";

const ready = ({ result }) => waitFor(() => expect(result.current.readyState).toBe(true));

/** Returns the socket's address with a token in it, and a JWT for the first message. */
async function credentials(site) {
  const jwt = await site.makeJwt();
  const token = await tokenFrom(site.tokenUrl)({ jwt, signal: new AbortController().signal });
  return { socketUrl: `${site.chat}?token=${token}`, initPayload: { type: "jwt", token: jwt } };
}

describe("with a token in socketUrl and a JWT in initPayload", () => {
  test.for([
    ["a value", (payload) => payload],
    ["a function", (payload) => () => payload],
    ["a function that returns a promise", (payload) => async () => payload],
  ])("the two steps are taken: %s", async ([, as]) => {
    const site = await newSite();
    const { socketUrl, initPayload } = await credentials(site);
    const page = mount(useWebSocketLite, { socketUrl, initPayload: as(initPayload) });
    await ready(page);
    expect(page.result.current.send({ text: "hello" })).toBe(true);
    await site.saw("message");
    expect((await site.messages()).map((text) => JSON.parse(text))).toEqual([{ text: "hello" }]);
    await site.tell("send", '{"n": 1}');
    await waitFor(() => expect(page.result.current.data).toMatchObject({ message: { n: 1 } }));
    expect(await site.events("token")).toHaveLength(1);
  });

  test("there is one connection, and no retry, for the token is spent", async () => {
    const site = await newSite();
    const { socketUrl, initPayload } = await credentials(site);
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const closes = [];
    const options = { socketUrl, initPayload, retryInterval: 5, onClose: (close) => closes.push(close) };
    const page = mount(useWebSocketLite, options);
    await ready(page);
    await site.saw("open");
    await site.tell("close_sockets", 1012);
    await waitFor(() => expect(page.result.current.readyState).toBe(false));
    await waitFor(() => expect(closes).toMatchObject([{ code: 1012, reaction: "stop", retryIn: null }]));
    await settle(site);
    expect(await site.events("upgrade")).toHaveLength(1);
    expect(warned.mock.calls.flat().join()).not.toContain(new URL(socketUrl).searchParams.get("token"));
    page.rerender({ ...options });
    await settle(site);
    expect(await site.events("upgrade")).toHaveLength(1);
  });

  test("another token in socketUrl is another connection", async () => {
    const site = await newSite();
    const first = await credentials(site);
    const page = mount(useWebSocketLite, first);
    await ready(page);
    page.rerender(await credentials(site));
    await site.saw("open", 2);
    await ready(page);
    expect(await site.events("upgrade")).toHaveLength(2);
  });

  test("StrictMode spends the token once", async () => {
    const site = await newSite();
    const page = mount(useWebSocketLite, await credentials(site), { strict: true });
    await ready(page);
    await settle(site);
    expect(await site.events("upgrade")).toHaveLength(1);
  });
});

describe("with getJwt and getToken", () => {
  test("initPayload is sent after each auth_ok, before what was queued", async () => {
    const site = await newSite();
    const page = mount(useWebSocketLite, {
      socketUrl: site.chat,
      getJwt: () => site.makeJwt(),
      getToken: tokenFrom(site.tokenUrl),
      initPayload: { subscribe: "news" },
      retryInterval: 5,
    });
    page.result.current.send("queued");
    await site.saw("message", 2);
    await site.tell("close_sockets", 1012);
    await site.saw("message", 3);
    const messages = (await site.messages()).map((text) => JSON.parse(text));
    expect(messages).toEqual([{ subscribe: "news" }, "queued", { subscribe: "news" }]);
  });

  test("initPayload may be a function, asked for each connection", async () => {
    const site = await newSite();
    let times = 0;
    mount(useWebSocketLite, {
      socketUrl: site.chat,
      getJwt: () => site.makeJwt(),
      getToken: tokenFrom(site.tokenUrl),
      initPayload: () => ({ times: (times += 1) }),
      retryInterval: 5,
    });
    await site.saw("message", 1);
    await site.tell("close_sockets", 1012);
    await site.saw("message", 2);
    expect((await site.messages()).map((text) => JSON.parse(text))).toEqual([{ times: 1 }, { times: 2 }]);
  });

  test("protocol is the subprotocol", async () => {
    const site = await newSite();
    mount(useWebSocketLite, {
      socketUrl: site.chat,
      protocol: "chat.v1",
      getJwt: () => site.makeJwt(),
      getToken: tokenFrom(site.tokenUrl),
    });
    expect((await site.saw("open"))[0].subprotocol).toBe("chat.v1");
  });

  test("nothing but the three of the old interface is needed from it", async () => {
    const site = await newSite();
    const page = mount(useWebSocketLite, {
      socketUrl: site.chat,
      getJwt: () => site.makeJwt(),
      getToken: tokenFrom(site.tokenUrl),
    });
    await ready(page);
    expect(page.result.current).toMatchObject({ send: expect.any(Function), readyState: true, data: undefined });
  });
});

describe("retries", () => {
  /** Mounts it where every attempt fails, in fake time. */
  function failing(options) {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    onTestFinished(() => vi.useRealTimers());
    vi.spyOn(Math, "random").mockReturnValue(1 - 1e-9);
    const closes = [];
    mount(useWebSocketLite, {
      socketUrl: "/ws",
      WebSocket: fakeWebSocket(),
      getJwt: () => Promise.reject(new Error("down")),
      getToken: () => "t",
      onClose: (close) => closes.push(close),
      ...options,
    });
    return closes;
  }

  test("are three by default, and the first wait is at most a second and a half", async () => {
    const closes = failing({});
    await vi.advanceTimersByTimeAsync(60_000);
    expect(closes.map(({ retryIn }) => retryIn && Math.round(retryIn))).toEqual([1500, 3000, 6000, null]);
  });

  test("are as many as retry says, from retryInterval on", async () => {
    const closes = failing({ retry: 1, retryInterval: 100 });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(closes.map(({ retryIn }) => retryIn && Math.round(retryIn))).toEqual([100, null]);
  });
});

describe("without a JWT", () => {
  test.for([undefined, { type: "subscribe" }, { type: "jwt" }, "hello"])(
    "it is a TypeError that says what to do: initPayload = %o",
    (initPayload) => {
      const complaints = vi.spyOn(console, "error").mockImplementation(() => {});
      const silence = (event) => event.preventDefault();
      window.addEventListener("error", silence);
      onTestFinished(() => window.removeEventListener("error", silence));
      const options = { socketUrl: "ws://127.0.0.1:9/ws?token=t", initPayload };
      let error;
      try {
        mount(useWebSocketLite, options).unmount();
      } catch (caught) {
        error = caught;
      }
      complaints.mockClear();
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toMatch(/getJwt/);
      expect(error.message).toMatch(/initPayload/);
    },
  );
});
