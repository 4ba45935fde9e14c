// Time limits and waits that end with the connection they belong to.

/** Return what `work(signal)` resolves to, unless it takes too long, or `life` ends: the signal is aborted then. */
export async function within(timeout, life, work) {
  life.throwIfAborted();
  const controller = new AbortController();
  let timer, onEnd;
  const interrupted = new Promise((_, reject) => {
    const interrupt = (error) => {
      reject(error);
      controller.abort(error);
    };
    timer = startTimer(timeout, () => interrupt(new Error(`it took longer than ${timeout} ms`)));
    onEnd = () => interrupt(life.reason);
    life.addEventListener("abort", onEnd);
  });
  try {
    return await Promise.race([interrupted, work(controller.signal)]);
  } finally {
    clearTimeout(timer);
    life.removeEventListener("abort", onEnd);
  }
}

/** As `setTimeout`, which takes what is too long for it, and Infinity, for 1 ms. */
export function startTimer(milliseconds, callback) {
  return setTimeout(callback, Math.min(milliseconds, 2 ** 31 - 1));
}

/** Resolve after so many milliseconds, or at once when `signal` is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = startTimer(milliseconds, end);
    signal.addEventListener("abort", end);
  });
}
