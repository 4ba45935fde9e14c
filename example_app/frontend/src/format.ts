// Numbers, times and secrets, as a person reads them.

export function formatMilliseconds(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
}

/** "42 s", "3 min 5 s", "2 h 7 min". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const TIME_OF_DAY = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" } as const;

/** The time of day, of milliseconds since 1970. */
export function formatTime(milliseconds: number): string {
  return new Date(milliseconds).toLocaleTimeString([], TIME_OF_DAY);
}

/** Secrets have no business on a screen: enough to tell two apart. */
export function shorten(secret: string): string {
  return secret.length > 12 ? `${secret.slice(0, 6)}…${secret.slice(-3)}` : secret;
}

/** A message of the protocol with its token shortened; any other text as it is. */
export function shortenMessage(text: string): string {
  return text.replace(/("(?:token|jwt)"\s*:\s*")([^"]+)"/g, (_, before, secret) => `${before}${shorten(secret)}"`);
}
