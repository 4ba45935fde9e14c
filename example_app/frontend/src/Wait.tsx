import { useNow } from "./useNow";

/** A countdown to the next attempt; nothing while none is waited for. */
export function Wait({ until }: { readonly until: number | null }) {
  const now = useNow(until === null ? 0 : 100);
  if (until === null) return null;
  return (
    <p className="wait" data-testid="countdown">
      again in {(Math.max(0, until - now) / 1000).toFixed(1)} s
    </p>
  );
}
