// The server both panes talk to: what it says of itself, and two things that happen to servers.

import { useEffect, useState } from "react";
import { LoggedOut } from "tornado-wsauth";
import { Action } from "./Action";
import { restartServer, rotateKeys, type Login, type Status } from "./api";
import { formatDuration } from "./format";
import { useNow } from "./useNow";

interface Props {
  readonly status: Status | null;
  /** Which process each pane is connected to. */
  readonly servedBy: Readonly<Record<string, number | null>>;
  readonly isUnreachable: boolean;
  /** Who asks for it; null: nobody is logged in. */
  readonly login: Login | null;
  readonly refresh: () => Promise<void>;
}

export function ServerCard({ status, servedBy, isUnreachable, login, refresh }: Props) {
  const [said, setSaid] = useState("");

  const order = async (what: (login: Login) => Promise<string>) => {
    if (login === null) return;
    try {
      setSaid(await what(login));
      await refresh();
    } catch (error) {
      setSaid(error instanceof LoggedOut ? "That login has ended. Log in again." : "The server did not answer.");
    }
  };

  return (
    <section className="card server" aria-labelledby="server-title">
      <h2 id="server-title">The server</h2>
      <Facts status={status} servedBy={servedBy} />
      <div className="actions">
        <Action
          isPossible={login !== null}
          describedBy="rotate-why"
          onClick={() => void order(rotate)}
        >
          Rotate keys
        </Action>
        <Action
          isPossible={login !== null}
          describedBy="restart-why"
          onClick={() => void order(restart)}
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
          <b>Restart:</b> the clients of the process see 1012, wait a random moment, and come back with a new token and
          JWT.
        </span>
      </p>
    </section>
  );
}

async function rotate(login: Login): Promise<string> {
  await rotateKeys(login);
  return "New JWTs are signed with a new key. Live connections go on.";
}

async function restart(login: Login): Promise<string> {
  return `Process ${await restartServer(login)} restarts: 1012 for all of its clients, and a return at random.`;
}

function Facts({ status, servedBy }: Pick<Props, "status" | "servedBy">) {
  const now = useNow(1_000);
  const [heardAt, setHeardAt] = useState(now);
  useEffect(() => setHeardAt(Date.now()), [status]);
  const since = Math.max(0, now - heardAt) / 1000;
  return (
    <dl className="facts">
      <div>
        <dt>Processes</dt>
        <dd data-testid="processes">{status === null ? "…" : describe(status.processes, servedBy)}</dd>
      </div>
      <div>
        <dt>{status === null || status.processes === 1 ? "Start" : `Start of process ${status.process}`}</dt>
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

function describe(processes: number, servedBy: Props["servedBy"]): string {
  const panes = Object.entries(servedBy).flatMap(([side, process]) => (process === null ? [] : `${side} ${process}`));
  return processes === 1 || panes.length === 0 ? `${processes}` : `${processes} (${panes.join(", ")})`;
}
