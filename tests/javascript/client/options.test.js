// What a page can get wrong, and the functions that stand by themselves.
import { describe, expect, test } from "vitest";
import { Connection, connect, describeClose, socketUrl } from "tornado-wsauth";

const GOOD = { url: "ws://127.0.0.1:9/ws", getJwt: () => new Promise(() => {}), getToken: () => "t" };

const WRONG = [
  ["url", undefined], ["url", null], ["url", 7], ["url", ""], ["url", {}],
  ["getJwt", undefined], ["getJwt", "a.b.c"], ["getToken", undefined], ["getToken", "t"],
  ["protocols", 7], ["protocols", [7]],
  ["tokenParam", ""], ["tokenParam", 7],
  ["timeout", 0], ["timeout", -1], ["timeout", "10"], ["timeout", NaN],
  ["retries", -1], ["retries", "3"], ["retries", NaN],
  ["retryInterval", -1], ["retryInterval", "1"], ["retryInterval", NaN],
  ["maxRetryInterval", -1], ["maxRetryInterval", "1"], ["maxRetryInterval", NaN],
  ["whenNotReady", "drop"], ["whenNotReady", true],
  ["maxQueue", -1], ["maxQueue", "9"], ["maxQueue", NaN],
  ["binaryType", "text"],
  ["signal", {}], ["signal", new AbortController()],
  ["WebSocket", 7], ["WebSocket", "ws"],
  ["onMessage", "print"], ["onState", {}], ["onClose", 1], ["onStep", true], ["decide", "retry"],
];

describe("a wrong option", () => {
  test.for(WRONG)("is a TypeError that names it and says what to do: %s = %o", ([name, value]) => {
    let error;
    try {
      new Connection({ ...GOOD, [name]: value }).disconnect();
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(name);
    expect(error.message).not.toMatch(/is not a function$|Cannot read/); // what the language says by itself
    expect(error.message.length).toBeGreaterThan(name.length + 15);
  });

  test("of connect() is one too", async () => {
    await expect((async () => connect({ ...GOOD, timeout: -1 }))()).rejects.toBeInstanceOf(TypeError);
  });

  test("is not in a TypeError's message where it may be a credential", () => {
    for (const name of ["getJwt", "getToken"]) {
      expect(() => new Connection({ ...GOOD, [name]: "s3cr3t.jwt" })).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining("s3cr3t") }),
      );
    }
  });

  test.for([undefined, null, 7, "ws://127.0.0.1/"])("is what there is in place of options: %o", (options) => {
    expect(() => new Connection(options)).toThrow(TypeError);
  });

  test("is none of those that may be undefined", () => {
    const names = ["protocols", "tokenParam", "timeout", "retries", "retryInterval", "maxRetryInterval", "whenNotReady",
      "maxQueue", "binaryType", "signal", "WebSocket", "onMessage", "onState", "onClose", "onStep", "decide"];
    const connection = new Connection({ ...GOOD, ...Object.fromEntries(names.map((name) => [name, undefined])) });
    expect(connection.state).toBe("connecting");
    connection.disconnect();
  });
});

describe("socketUrl()", () => {
  test.for([
    ["https://app.example/ws/chat", "wss://app.example/ws/chat"],
    ["http://app.example:8888/ws?room=1", "ws://app.example:8888/ws?room=1"],
    ["wss://app.example/ws", "wss://app.example/ws"],
    ["ws://app.example/ws", "ws://app.example/ws"],
  ])("returns the socket's address: %s", ([address, expected]) => {
    expect(socketUrl(address)).toBeInstanceOf(URL);
    expect(socketUrl(address).href).toBe(expected);
    expect(socketUrl(new URL(address)).href).toBe(expected);
  });

  test("leaves the URL that it is given as it is", () => {
    const address = new URL("https://app.example/ws");
    socketUrl(address);
    expect(address.href).toBe("https://app.example/ws");
  });

  test.for(["ftp://app.example/", "mailto:me@app.example", "javascript:alert(1)", "http://", ""])(
    "throws a TypeError for what is no address of a socket: %s",
    (address) => expect(() => socketUrl(address)).toThrow(TypeError),
  );
});

describe("describeClose()", () => {
  const KNOWN = [
    [4400, "bad_message"], [4401, "jwt_expired"], [4401, "jwt_invalid"], [4401, "token_invalid"],
    [4403, "user_mismatch"], [4403, "revoked"], [4403, "forbidden"], [4408, "auth_timeout"], [4409, "replaced"],
    [4429, "too_many"], [1001, "shutdown"], [1009, ""], [1011, "internal"], [1012, "restart"], [1013, "slow_reader"],
    [1006, ""], [null, "jwt_unavailable"], [null, "token_unavailable"],
  ];
  const sentence = (words) => words.trim().split(/\s+/).length >= 3 && /^[A-Z]/.test(words);

  test.for(KNOWN)("has a sentence for %s %s", ([code, reason]) => {
    expect(describeClose(code, reason)).toSatisfy(sentence);
  });

  test("has another one for each code", () => {
    const codes = [...new Set(KNOWN.map(([code]) => code))].filter((code) => code !== null);
    expect(new Set(codes.map((code) => describeClose(code))).size).toBe(codes.length);
  });

  test.for([[4999, "strange"], [3000], [0], [1000], [1005], [1002], [1003], [1007], [1008], [1010], [4401], [null]])(
    "has a sentence even for %s",
    ([code, reason]) => expect(describeClose(code, reason)).toSatisfy(sentence),
  );
});
