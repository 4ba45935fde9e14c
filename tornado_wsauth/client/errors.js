// What this client throws. `LoggedOut` and `TryLater` are for `getJwt` and `getToken` to throw, too.

/** Nobody is logged in: another attempt is of no use, and the connection stops. */
export class LoggedOut extends Error {
  name = "LoggedOut";
}

/** Credentials are not to be had now. The next attempt comes after `retryAfter` seconds, or later. */
export class TryLater extends Error {
  name = "TryLater";

  constructor(message, retryAfter) {
    super(message);
    if (!(Number.isFinite(retryAfter) && retryAfter >= 0)) throw new TypeError("TryLater: retryAfter must be seconds");
    this.retryAfter = retryAfter;
  }
}

/** A connection has stopped; `close` says how. */
export class Stopped extends Error {
  name = "Stopped";

  constructor(close) {
    super(close.words);
    this.close = close;
  }
}

/** `send()` could neither send nor queue. */
export class NotReady extends Error {
  name = "NotReady";
}

/** A step took longer than it may, or came to nothing. `reason` is the `Close`'s; not thrown at the application. */
export class Failed extends Error {
  name = "Failed";

  constructor(reason, cause) {
    super(reason, { cause });
    this.reason = reason;
  }
}
