// The server both panes talk to: what it says of itself, and two things that happen to servers.

import { useEffect, useState } from "react";
import { LoggedOut } from "tornado-wsauth";
import { Action } from "./Action";
import { restartServer, rotateKeys, type Login, type Status } from "./api";
import { formatDuration } from "./format";
import { useNow } from "./useNow";

interface Props {
  readonly status: Status | null;
  readonly isUnreachable: boolean;
  /** Who asks for it; null: nobody is logged in. */
  readonly login: Login | null;
  readonly refresh: () => Promise<void>;
}

export function ServerCard({ status, isUnreachable, login, refresh }: Props) {
  const [said, setSaid] = useState("");

  const order = async (what: (login: Login) => Promise<void>, done: string) => {
    if (login === null) return;
    try {
      await what(login);
      setSaid(done);
      await refresh();
    } catch (error) {
      setSaid(error instanceof LoggedOut ? "That login has ended. Log in again." : "The server did not answer.");
    }
  };

  return (
    <section className="card server" aria-labelledby="server-title">
      <h2 id="server-title">The server</h2>
      <Facts status={status} />
      <div className="actions">
        <Action
          isPossible={login !== null}
          describedBy="rotate-why"
          onClick={() => void order(rotateKeys, "New JWTs are signed with a new key. Live connections go on.")}
        >
          Rotate keys
        </Action>
        <Action
          isPossible={login !== null}
          describedBy="restart-why"
          onClick={() => void order(restartServer, "The server restarts: 1012 for everyone, and a return at random.")}
        >
          Restart server
        </Action>
        {isUnreachable ? <Action onClick={() => void refresh()}>Ask again</Action> : null}
      </div>
      <p className="said" role="status">
        {isUnreachable ? "The server does not answer." : said}
      </p>
      <p className="hint">
        {login === null ? "Log in below to press these. " : null}
        <span id="rotate-why">
          <b>Rotate:</b> the key before stays good for the JWTs that are out; older ones are refused with 4401.
        </span>{" "}
        <span id="restart-why">
          <b>Restart:</b> both clients see 1012, wait a random moment, and come back with a new token and JWT.
        </span>
      </p>
    </section>
  );
}

function Facts({ status }: { readonly status: Status | null }) {
  const now = useNow(1_000);
  const [heardAt, setHeardAt] = useState(now);
  useEffect(() => setHeardAt(Date.now()), [status]);
  const since = Math.max(0, now - heardAt) / 1000;
  return (
    <dl className="facts">
      <div>
        <dt>Start</dt>
        <dd data-testid="starts">{status === null ? "…" : `#${status.starts}`}</dd>
      </div>
      <div>
        <dt>Up for</dt>
        <dd>{status === null ? "…" : formatDuration(status.uptime + since)}</dd>
      </div>
      <div>
        <dt>Online</dt>
        <dd data-testid="online">{status === null ? "…" : status.online}</dd>
      </div>
      <div>
        <dt>Signing key</dt>
        <dd data-testid="key-id">{status === null ? "…" : status.key_id}</dd>
      </div>
    </dl>
  );
}
