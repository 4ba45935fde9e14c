// Two gauges of a live connection: how long its JWT lasts, and how long a message takes there and back.

import { formatMilliseconds } from "./format";
import { useNow } from "./useNow";
import type { Pane } from "./usePane";

export function Life({ pane, side }: { readonly pane: Pane; readonly side: string }) {
  return (
    <div className="gauges">
      <JwtLife pane={pane} side={side} />
      <Latency samples={pane.log.latencies} />
    </div>
  );
}

function JwtLife({ pane, side }: { readonly pane: Pane; readonly side: string }) {
  const isReady = pane.state === "ready";
  const now = useNow(isReady ? 500 : 0);
  const expiresAt = isReady ? (pane.session?.expiresAt ?? null) : null;
  const left = expiresAt === null ? null : Math.min(pane.jwtLifetime, Math.max(0, expiresAt - now / 1000));
  return (
    <div className="gauge">
      <h3 id={`${side}-life`}>Life of the JWT</h3>
      <p className="reading">
        {left === null ? "–" : `${Math.ceil(left)} s`}{" "}
        <small>renewed on the live connection, 15 s before its end</small>
      </p>
      <progress aria-labelledby={`${side}-life`} max={pane.jwtLifetime} value={left ?? 0} />
    </div>
  );
}

const WIDTH = 59;
const HEIGHT = 20;

function Latency({ samples }: { readonly samples: readonly number[] }) {
  const newest = samples.at(-1);
  const top = Math.max(5, ...samples) * 1.1; // below 5 ms everything is as good
  const first = WIDTH + 1 - samples.length;
  const points = samples.map((sample, index) => `${first + index},${(HEIGHT * (1 - sample / top)).toFixed(2)}`);
  return (
    <div className="gauge">
      <h3>Round trip</h3>
      <p className="reading">
        <span data-testid="latency">{newest === undefined ? "–" : formatMilliseconds(newest)}</span>{" "}
        <small>one small message each second, the last minute</small>
      </p>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <line x1="0" y1={HEIGHT} x2={WIDTH} y2={HEIGHT} />
        <polyline points={points.join(" ")} />
      </svg>
    </div>
  );
}
