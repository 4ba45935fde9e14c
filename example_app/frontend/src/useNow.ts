import { useEffect, useState } from "react";

/** The time in milliseconds since 1970, again every `interval` milliseconds; 0: it stands still. */
export function useNow(interval: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    setNow(Date.now());
    if (interval === 0) return undefined;
    const timer = setInterval(() => setNow(Date.now()), interval);
    return () => clearInterval(timer);
  }, [interval]);
  return now;
}
