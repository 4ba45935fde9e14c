// What each end of a connection means, in words and for what comes next: the client's column of the table in
// docs/protocol.md §5. Pure; the waiting is done in `wsauth.js`.

const WORDS = {
  1000: "The server closed the connection.",
  1001: "The server is shutting down.",
  1002: "The server saw a violation of the WebSocket protocol.",
  1003: "The server cannot take this kind of data.",
  1005: "The connection was closed without a word.",
  1006: "The connection was refused, or it broke off.",
  1007: "A message was not what it said it was.",
  1008: "The server refused a message.",
  1009: "A message was larger than the server allows.",
  1010: "The server lacks an extension that this client asked for.",
  1011: "Something went wrong in the server.",
  1012: "The server is restarting.",
  1013: "More was queued for this client than it read.",
  4400: "The server did not understand the first message.",
  4401: "The credentials are not valid.",
  4403: "This user is not allowed here.",
  4408: "The server waited too long for the JWT.",
  4409: "A newer connection of the same user took this one’s place.",
  4429: "More was sent, or opened, than the server allows.",
};

const WORDS_OF_REASONS = {
  jwt_expired: "The JWT has expired.",
  jwt_invalid: "The JWT is not valid.",
  token_invalid: "The connection token is not valid.",
  user_mismatch: "The JWT is another user’s than the token, or the connection.",
  revoked: "The user was logged out.",
  jwt_unavailable: "No JWT could be had.",
  token_unavailable: "No connection token could be had.",
  url_unavailable: "The address could not be had.",
  timeout: "The server did not answer in time.",
  bad_server: "The server did not answer the JWT with auth_ok: it does not speak this protocol.",
  bad_url: "The address is none that a WebSocket can be opened at.",
  spent_token: "getToken gave a token that was used before; each attempt needs a new one.",
  disconnected: "Disconnected.",
};

const STOPPING_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010, 4400, 4403, 4409]);
const STOPPING_REASONS = new Set(["bad_server", "bad_url"]); // of ours: they have no code

/** Return a sentence for a person. */
export function describeClose(code, reason = "") {
  if (Object.hasOwn(WORDS_OF_REASONS, reason)) return WORDS_OF_REASONS[reason];
  return WORDS[code] ?? `The connection was closed with ${code === null ? reason : `${code} ${reason}`.trimEnd()}.`;
}

/**
 * Return what is usual: `"stop"`, `"retry"` with backoff, `"now"` for a retry without, or `"once"` for a retry that is
 * of no use a second time.
 */
export function usualReaction(code, reason, during) {
  if (code === null ? STOPPING_REASONS.has(reason) : STOPPING_CODES.has(code)) return "stop";
  if (code !== 4401) return "retry";
  if (reason !== "jwt_expired") return "once";
  return during === "ready" ? "now" : "retry";
}

/** Return how many milliseconds to wait after so many failures in a row: "full jitter", from 0 to a doubling limit. */
export function backoff(failures, retryInterval, maxRetryInterval) {
  return Math.random() * Math.min(maxRetryInterval, retryInterval * 2 ** failures);
}
