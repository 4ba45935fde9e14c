// What the page asks the server for over HTTP. The WebSocket is the library's business; see usePane.ts.

import { LoggedOut, TryLater } from "tornado-wsauth";

/** A user who logged in. `session` is the secret that proves it: in your application, a cookie that no script sees. */
export interface Login {
  readonly userId: string;
  readonly session: string;
  readonly sessionId: string;
}

/**
 * What one of the server's processes says of itself and of them all, here and in each broadcast: `starts` and `uptime`,
 * in seconds, are its own.
 */
export interface Status {
  readonly process: number;
  readonly processes: number;
  readonly starts: number;
  readonly uptime: number;
  readonly online: number;
  readonly key_id: string;
}

export interface Config {
  readonly users: Readonly<Record<string, string>>;
  readonly groups: readonly string[];
  readonly auth_timeout: number;
  readonly max_connections: number;
  readonly token_store: string;
  readonly status: Status;
}

export async function fetchConfig(signal?: AbortSignal): Promise<Config> {
  const response = await fetch("/config.json", { cache: "no-store", signal: signal ?? null });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return await response.json();
}

/** Returns null for a wrong password. */
export async function logIn(username: string, password: string): Promise<Login | null> {
  const response = await fetch("/login", { method: "POST", body: JSON.stringify({ username, password }) });
  if (response.status === 401) return null;
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const { user_id, session, session_id } = await response.json();
  return { userId: user_id, session, sessionId: session_id };
}

/** Returns a fresh JWT of a login and its life in seconds, for `getJwt`. Throws `LoggedOut` once the login has ended. */
export async function fetchJwt(login: Login, signal?: AbortSignal): Promise<{ jwt: string; expires_in: number }> {
  return await (await post("/jwt", login, signal)).json();
}

export async function fetchExpiredJwt(login: Login): Promise<string> {
  return (await (await post("/demo/expired-jwt", login)).json()).jwt;
}

export async function logOut(login: Login, where: "everywhere" | "here"): Promise<void> {
  await post(where === "here" ? "/logout/here" : "/logout", login);
}

export async function rotateKeys(login: Login): Promise<void> {
  await post("/demo/rotate-keys", login);
}

/** Returns which of the server's processes restarts. */
export async function restartServer(login: Login): Promise<number> {
  return (await (await post("/demo/restart", login)).json()).process;
}

async function post(path: string, login: Login, signal?: AbortSignal): Promise<Response> {
  const headers = { Authorization: `Bearer ${login.session}` };
  const response = await fetch(path, { method: "POST", cache: "no-store", headers, signal: signal ?? null });
  if (response.status === 401) throw new LoggedOut("this login has ended");
  if (response.status === 503) throw new TryLater("the server is not available", 1);
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return response;
}
