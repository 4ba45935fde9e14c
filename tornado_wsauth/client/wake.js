// Tells when the network is back, and when the page has slept: a closed laptop, a frozen tab. A socket may be dead by
// then without a word.

const HEARTBEAT = 5_000;
const SLEPT = 15_000; // milliseconds without a heartbeat that no busy page explains

export function isOffline() {
  return globalThis.navigator?.onLine === false;
}

/** Call `onOnline` and `onWake` when that is so, until `signal` is aborted. */
export function watch({ onOnline, onWake }, signal) {
  let lastSeen = Date.now();
  // In a hidden tab browsers let timers run once a minute: only the time until the tab is seen again counts there.
  const look = () => {
    if (globalThis.document?.hidden) return;
    const asleep = Date.now() - lastSeen;
    lastSeen = Date.now();
    if (asleep > SLEPT) onWake();
  };
  const heartbeat = setInterval(look, HEARTBEAT);
  heartbeat.unref?.(); // Node.js: no reason for a process to stay
  signal.addEventListener("abort", () => clearInterval(heartbeat), { once: true });
  globalThis.document?.addEventListener("visibilitychange", look, { signal });
  globalThis.addEventListener?.("online", onOnline, { signal });
}
