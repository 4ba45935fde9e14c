// What becomes of messages that are sent while nobody can receive them.
import { describe, expect, test } from "vitest";
import { NotReady } from "tornado-wsauth";
import { open } from "../client.js";
import { eventually, newSite, settle } from "../site.js";

describe("send() before ready", () => {
  test("queues, and the messages go out in order right after auth_ok, never before", async () => {
    const site = await newSite();
    await site.tell("hang", "authenticate");
    const { connection } = open(site);
    connection.send("one");
    connection.send("two");
    await site.saw("authenticate");
    connection.send("three");
    await settle(site);
    expect(connection.unsent).toEqual(["one", "two", "three"]);
    expect(await site.messages()).toEqual([]);
    await site.tell("release", "authenticate");
    await connection.ready;
    connection.send("four");
    await site.saw("message", 4);
    expect(await site.messages()).toEqual(["one", "two", "three", "four"]);
    expect(connection.unsent).toEqual([]);
  });

  test("sends nothing but the JWT to a server that has not said auth_ok", async () => {
    const site = await newSite();
    const { connection, steps } = open(site, { url: site.rude });
    connection.send("secret");
    await site.saw("message");
    expect(steps.at(-1)).toBe("authenticate");
    connection.send("another secret");
    await settle(site);
    expect(await site.events("message")).toHaveLength(1);
  });

  test("keeps messages across connections, and sends each once", async () => {
    const site = await newSite();
    const { connection } = open(site);
    connection.send("one");
    await site.saw("message", 1);
    await site.tell("stop");
    await eventually(() => expect(connection.state).toBe("waiting"));
    connection.send("two");
    connection.send("three");
    await site.tell("start");
    await site.saw("message", 3);
    await settle(site);
    expect(await site.messages()).toEqual(["one", "two", "three"]);
  });

  test("goes behind what onState sends when it becomes ready", async () => {
    const site = await newSite();
    const { connection } = open(site, {
      onState: (state, it) => state === "ready" && it.send("hello"),
    });
    connection.send("queued");
    await site.saw("message", 2);
    expect(await site.messages()).toEqual(["hello", "queued"]);
  });

  test("throws NotReady at one message more than maxQueue, and keeps the others", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const { connection } = open(site, { maxQueue: 3 });
    for (const message of ["one", "two", "three"]) connection.send(message);
    expect(() => connection.send("four")).toThrow(NotReady);
    expect(connection.unsent).toEqual(["one", "two", "three"]);
    await site.tell("release", "token");
    await site.saw("message", 3);
    connection.send("five");
    await site.saw("message", 4);
    expect(await site.messages()).toEqual(["one", "two", "three", "five"]);
  });

  test("queues a hundred by default", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const { connection } = open(site);
    for (let i = 0; i < 100; i += 1) connection.send(`${i}`);
    expect(() => connection.send("100")).toThrow(NotReady);
    expect(connection.unsent).toHaveLength(100);
  });

  test("throws NotReady where nothing is to be queued: whenNotReady", async () => {
    const site = await newSite();
    const { connection } = open(site, { whenNotReady: "throw" });
    expect(() => connection.send("early")).toThrow(NotReady);
    await connection.ready;
    connection.send("in time");
    await site.saw("message");
    expect(await site.messages()).toEqual(["in time"]);
    expect(connection.unsent).toEqual([]);
  });
});

describe("send()", () => {
  test("sends text and bytes as they are, and other objects as JSON", async () => {
    const site = await newSite();
    const { connection } = open(site);
    const sent = [
      "text",
      { type: "chat", text: "é" },
      [1, 2],
      new Uint8Array([1, 2, 3]).buffer,
      new Uint8Array([9, 1, 2, 9]).subarray(1, 3),
      new Blob([new Uint8Array([7])]),
    ];
    for (const message of sent.slice(0, 3)) connection.send(message);
    await connection.ready;
    for (const message of sent.slice(3)) connection.send(message);
    await site.saw("message", 6);
    const [text, object, list, ...bytes] = await site.messages();
    expect(text).toBe("text");
    expect(JSON.parse(object)).toEqual({ type: "chat", text: "é" });
    expect(JSON.parse(list)).toEqual([1, 2]);
    expect(bytes).toEqual([[1, 2, 3], [1, 2], [7]]);
  });

  test("sends bytes that were queued as bytes", async () => {
    const site = await newSite();
    const { connection } = open(site);
    connection.send(new Uint8Array([1, 2, 3]));
    await site.saw("message");
    expect(await site.messages()).toEqual([[1, 2, 3]]);
  });

  test("throws NotReady after a stop, and what nobody sent is in unsent", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const { connection } = open(site);
    const object = { a: 1 };
    connection.send("one");
    connection.send(object);
    connection.disconnect();
    expect(() => connection.send("late")).toThrow(NotReady);
    expect(connection.unsent).toHaveLength(2);
    expect(connection.unsent[0]).toBe("one");
    await site.tell("release", "token");
    await settle(site);
    expect(connection.unsent).toHaveLength(2);
    expect(await site.messages()).toEqual([]);
  });

  test("queues again after a connection that was ready has broken", async () => {
    const site = await newSite();
    const { connection } = open(site, { retryInterval: 30_000 });
    await connection.ready;
    await site.saw("open");
    await site.tell("cut_sockets");
    await eventually(() => expect(connection.state).toBe("waiting"));
    connection.send("kept");
    expect(connection.unsent).toEqual(["kept"]);
    connection.retryNow();
    await site.saw("message");
    expect(connection.unsent).toEqual([]);
  });
});
