import type { Login } from "./api";
import { Action } from "./Action";
import type { Pane } from "./usePane";

interface Props {
  readonly login: Login;
  readonly pane: Pane;
  readonly onLogOut: (where: "everywhere" | "here") => void;
}

/** Who is logged in, and what that user can do about the connection. */
export function Account({ login, pane, onLogOut }: Props) {
  const isStopped = pane.state === "stopped";
  return (
    <div className="account">
      <p className="who">
        Logged in as <strong>{login.userId}</strong> <code title="the sid of this login's JWTs">{login.sessionId}</code>
      </p>
      <div className="actions">
        {/* One button, so that the focus stays where it is. */}
        <button
          type="button"
          className={isStopped ? "primary" : undefined}
          data-first
          onClick={isStopped ? pane.connect : pane.disconnect}
        >
          {isStopped ? "Connect" : "Disconnect"}
        </button>
        <Action isPossible={pane.state === "waiting"} onClick={pane.tryNow}>
          Try now
        </Action>
        <Action onClick={() => onLogOut("here")}>Log out here</Action>
        <Action onClick={() => onLogOut("everywhere")}>Log out everywhere</Action>
      </div>
    </div>
  );
}
