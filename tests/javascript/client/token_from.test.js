// tokenFrom(): the request for a connection token, and what each of the server's answers means.
import { describe, expect, test } from "vitest";
import { LoggedOut, tokenFrom, TryLater } from "tornado-wsauth";
import { open } from "../client.js";
import { newSite } from "../site.js";

const context = (jwt) => ({ jwt, signal: new AbortController().signal });

/** Returns what `getToken` throws when the route answers like this. */
async function refusal(answer) {
  const site = await newSite();
  await site.tell("answer_tokens", answer);
  return tokenFrom(site.tokenUrl)(context("s3cr3t.jwt")).then(
    (token) => { throw new Error(`there is a token: ${token}`); },
    (error) => error,
  );
}

describe("tokenFrom()", () => {
  test("POSTs with the JWT as Bearer, and returns the token", async () => {
    const site = await newSite();
    const jwt = await site.makeJwt();
    expect(await tokenFrom(site.tokenUrl)(context(jwt))).toMatch(/^[\w-]{43}$/);
    expect((await site.events("token"))[0].headers.Authorization).toBe(`Bearer ${jwt}`);
  });

  test("takes the address as a URL too", async () => {
    const site = await newSite();
    expect(await tokenFrom(new URL(site.tokenUrl))(context(await site.makeJwt()))).toMatch(/^[\w-]{43}$/);
  });

  test.for([
    ["an object", { "X-Xsrftoken": "x" }],
    ["Headers", new Headers({ "X-Xsrftoken": "x" })],
    ["a list", [["X-Xsrftoken", "x"]]],
  ])("sends the headers of its options along: %s", async ([, headers]) => {
    const site = await newSite();
    const jwt = await site.makeJwt();
    await tokenFrom(site.tokenUrl, { headers, credentials: "include" })(context(jwt));
    const [{ headers: got }] = await site.events("token");
    expect(got).toMatchObject({ "X-Xsrftoken": "x", "Authorization": `Bearer ${jwt}` });
  });

  test("leaves its options as they are, so that no JWT stays in them", async () => {
    const site = await newSite();
    const init = { headers: { "X-Xsrftoken": "x" } };
    await tokenFrom(site.tokenUrl, init)(context(await site.makeJwt()));
    expect(init).toEqual({ headers: { "X-Xsrftoken": "x" } });
  });

  test("throws LoggedOut for a JWT that the server does not accept", async () => {
    const site = await newSite();
    await expect(tokenFrom(site.tokenUrl)(context("not.a.jwt"))).rejects.toBeInstanceOf(LoggedOut);
  });

  test("stops a connection whose user is logged out, after one request", async () => {
    const site = await newSite();
    const { connection } = open(site, { getJwt: () => "not.a.jwt" });
    expect(await connection.stopped).toMatchObject({ error: expect.any(LoggedOut), reaction: "stop" });
    expect(await site.events("token")).toHaveLength(1);
  });

  test.for([429, 503])("throws TryLater for %d with Retry-After", async (status) => {
    const error = await refusal({ status, headers: { "Retry-After": "17" } });
    expect(error).toBeInstanceOf(TryLater);
    expect(error.retryAfter).toBe(17);
  });

  test("throws TryLater when the user holds too many tokens", async () => {
    const site = await newSite({ max_tokens_per_user: 1 });
    const getToken = tokenFrom(site.tokenUrl);
    const jwt = await site.makeJwt();
    await getToken(context(jwt));
    await expect(getToken(context(jwt))).rejects.toMatchObject({ retryAfter: 30 });
  });

  test.for([
    { status: 403 }, { status: 500 }, { status: 404 }, { status: 503 }, { status: 429 },
    { status: 503, headers: { "Retry-After": "soon" } },
    { status: 200, body: "not JSON" }, { status: 200, body: "{}" }, { status: 200, body: "null" },
    { status: 200, body: '{"token": 7}' },
  ])("throws what is tried again for %o", async (answer) => {
    const error = await refusal(answer);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(LoggedOut);
    expect(error.message).not.toContain("s3cr3t");
    const site = await newSite();
    await site.tell("answer_tokens", answer);
    const { connection, closes } = open(site);
    connection.stopped.then(() => {});
    if (!(error instanceof TryLater)) {
      await connection.ready;
      expect(closes).toMatchObject([{ reason: "token_unavailable", reaction: "retry" }]);
    }
  });

  test("takes its request back when the signal is aborted", async () => {
    const site = await newSite();
    await site.tell("hang", "token");
    const controller = new AbortController();
    const asking = tokenFrom(site.tokenUrl)({ jwt: await site.makeJwt(), signal: controller.signal });
    await site.saw("token");
    controller.abort();
    await expect(asking).rejects.toMatchObject({ name: "AbortError" });
  });
});
