// The page: what both panes share, and the two of them.

import { useCallback, useEffect, useState } from "react";
import { fetchConfig, type Config, type Login, type Status } from "./api";
import { Pane } from "./Pane";
import { ServerCard } from "./ServerCard";

const SIDES = ["left", "right"] as const;
type Side = (typeof SIDES)[number];

export function App() {
  const [config, setConfig] = useState<Config | null>(null);
  const [status, setStatus] = useState<Status | null>(null);
  const [isUnreachable, setUnreachable] = useState(false);
  const [logins, setLogins] = useState<Record<Side, Login | null>>({ left: null, right: null });
  const [servedBy, setServedBy] = useState<Record<Side, number | null>>({ left: null, right: null });
  const [slowMotion, setSlowMotion] = useState(false);

  const refresh = useCallback(async () => {
    try {
      const fetched = await fetchConfig();
      setConfig((before) => before ?? fetched);
      setStatus(fetched.status);
      setUnreachable(false);
    } catch {
      setUnreachable(true);
    }
  }, []);
  useEffect(() => void refresh(), [refresh]);

  return (
    <>
      <a className="skip-link" href="#panes">
        Skip to the two clients
      </a>
      <header className="topbar">
        <p className="brand">
          <img src="/icon.svg" alt="" width="28" height="28" /> tornado_wsauth
        </p>
        <label className="switch">
          <input
            type="checkbox"
            role="switch"
            checked={slowMotion}
            onChange={(event) => setSlowMotion(event.target.checked)}
          />
          <span>Slow motion</span>
        </label>
      </header>

      <main>
        <div className="intro">
          <h1>A WebSocket that opens in two steps, and comes back by itself</h1>
          <p>
            A browser cannot set headers on a WebSocket. So a single-use token takes a client through the upgrade, and a
            JWT as the first message lets it in. Here are two clients, live. Log in, connect, then break things: what
            the clients do about it is all the library’s.
          </p>
        </div>

        <ServerCard
          status={status}
          servedBy={servedBy}
          isUnreachable={isUnreachable}
          login={logins.left ?? logins.right}
          refresh={refresh}
        />

        <div className="panes" id="panes" tabIndex={-1}>
          {config === null
            ? null
            : SIDES.map((side, place) => (
                <Pane
                  key={side}
                  side={side}
                  config={config}
                  suggestedUser={Object.keys(config.users)[place] ?? ""}
                  login={logins[side]}
                  onLogin={(login) => setLogins((before) => ({ ...before, [side]: login }))}
                  slowMotion={slowMotion}
                  onStatus={setStatus}
                  onReady={refresh}
                  onServedBy={(process) => setServedBy((before) => ({ ...before, [side]: process }))}
                />
              ))}
        </div>
      </main>

      <footer className="footer">
        <p>
          Your browser writes a line to its console for each upgrade that is refused, and for each answer that is an
          error. No page can prevent that, which is one more reason for tokens that are worthless a moment later.
        </p>
        <p>
          {config === null ? null : (
            <>
              Connection tokens are kept in a <code>{config.token_store}</code>.{" "}
            </>
          )}
          The server is <code>example_app/app.py</code>; each client is the hook <code>useAuthWebSocket</code>, called
          in <code>frontend/src/usePane.ts</code>. The server’s terminal says why it refused somebody; a page is only
          told what a stranger may know.
        </p>
      </footer>
    </>
  );
}
