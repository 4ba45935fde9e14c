// One client: its user, its connection, and everything that can be seen of it or done to it.

import { useEffect, useRef, useState } from "react";
import { logOut, type Config, type Login, type Status } from "./api";
import { Account } from "./Account";
import { Failures } from "./Failures";
import { Handshake } from "./Handshake";
import { History } from "./History";
import { Life } from "./Life";
import { Live } from "./Live";
import { LoginForm } from "./LoginForm";
import { usePane } from "./usePane";
import { Wait } from "./Wait";

interface Props {
  readonly side: "left" | "right";
  readonly config: Config;
  readonly suggestedUser: string;
  readonly login: Login | null;
  readonly onLogin: (login: Login | null) => void;
  readonly slowMotion: boolean;
  readonly onStatus: (status: Status) => void;
  readonly onReady: () => void;
  readonly onServedBy: (process: number | null) => void;
}

export function Pane({ side, config, suggestedUser, login, onLogin, slowMotion, ...listeners }: Props) {
  const title = side === "left" ? "Left" : "Right";
  const [notice, setNotice] = useState("");
  const section = useRef<HTMLElement>(null);
  const logged = (next: Login | null, why: string) => {
    setNotice(next === null ? why : "");
    onLogin(next);
  };
  const isLeaving = useRef(false);
  const onLoggedOut = (why: string) => logged(null, isLeaving.current ? "" : why);
  const pane = usePane({ login, slowMotion, onLoggedOut, ...listeners });
  useFocusKept(section, login);

  const leave = async (where: "everywhere" | "here") => {
    if (login === null) return;
    isLeaving.current = true;
    const isDone = await logOut(login, where).then(
      () => true,
      () => false, // whatever went wrong: this page forgets the login
    );
    pane.note("logout", where === "here" ? "Logged out here." : `Logged out ${login.userId} everywhere.`);
    // A live connection is about to hear 4403, and that says more than its mere end would.
    if (isDone && pane.state === "ready") return;
    pane.disconnect();
    logged(null, "");
  };

  return (
    <section className="card pane" aria-label={`${title} pane`} ref={section}>
      <header className="pane-head">
        <h2>{title}</h2>
        <p className="badge" role="status" data-state={pane.state}>
          <span data-testid="state">{pane.state}</span>
        </p>
        <Wait until={pane.log.waitUntil} />
      </header>
      {login === null ? (
        <LoginForm
          side={side}
          users={config.users}
          suggestedUser={suggestedUser}
          notice={notice}
          onLogin={(next) => {
            isLeaving.current = false;
            pane.note("login", `${next.userId} logged in.`);
            logged(next, "");
          }}
        />
      ) : (
        <Account login={login} pane={pane} onLogOut={leave} />
      )}
      <Handshake steps={pane.log.steps} />
      <Failures pane={pane} login={login} config={config} />
      <History items={pane.log.history} side={side} />
      <Life pane={pane} side={side} />
      <Live pane={pane} side={side} groups={config.groups} />
    </section>
  );
}

/** When logging in or out replaces the form that has the focus, the focus goes to what came in its place. */
function useFocusKept(section: React.RefObject<HTMLElement | null>, login: Login | null): void {
  const before = useRef(login);
  useEffect(() => {
    if (before.current === login) return;
    before.current = login;
    if (document.activeElement !== null && document.activeElement !== document.body) return;
    section.current?.querySelector<HTMLElement>("[data-first]")?.focus({ preventScroll: true });
  }, [section, login]);
}
