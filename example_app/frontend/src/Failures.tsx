// What can be made to go wrong, in the next attempt and on the live connection.

import { useId, useState } from "react";
import { Action } from "./Action";
import type { Config, Login } from "./api";
import { crowdOut, FAILURES_OF_ATTEMPTS } from "./sabotage";
import type { Pane } from "./usePane";

const CODES = [1001, 1011, 1012, 1013, 4408] as const;
const FLOOD = 100; // messages; the server takes 50 in 5 s

interface Props {
  readonly pane: Pane;
  readonly login: Login | null;
  readonly config: Config;
}

/** A button's name, the close code to expect, and why. */
interface Failure {
  readonly name: string;
  readonly code: number;
  readonly why: string;
  readonly provoke: () => Promise<void>;
}

export function Failures({ pane, login, config }: Props) {
  const [problem, setProblem] = useState("");
  const [explained, setExplained] = useState("");
  const [code, setCode] = useState<number>(CODES[0]);
  const isReady = pane.state === "ready";

  const provoke = async (failure: Failure) => {
    pane.note("sabotage", `On purpose: ${failure.name}`);
    setProblem("");
    setExplained(wordsOf(failure));
    try {
      await failure.provoke();
    } catch {
      setProblem(
        `“${failure.name}” could not be prepared: the server did not give what it takes. Try again in a moment.`,
      );
    }
  };
  const ofAttempts: Failure[] = FAILURES_OF_ATTEMPTS.map(({ prepare, ...failure }) => ({
    ...failure,
    provoke: async () => pane.attempt(await prepare(login!, config)),
  }));
  const ofConnections = failuresOfConnections(pane, login, config);
  const close: Failure = {
    name: `Server closes with ${code}`,
    code,
    why: "Each of these codes is worth a retry: the server is going away, or something in it went wrong.",
    provoke: async () => void pane.send({ type: "fail", how: "close", code }),
  };

  return (
    <div className="part failures">
      <h3>Make it fail</h3>
      <h4>The next attempt, made at once. The one after it is honest.</h4>
      <Chips failures={ofAttempts} isPossible={login !== null} onClick={provoke} explain={setExplained} />
      <h4>The live connection.</h4>
      <Chips failures={ofConnections} isPossible={isReady} onClick={provoke} explain={setExplained}>
        <li
          className="closes"
          onMouseEnter={() => setExplained(wordsOf(close))}
          onFocus={() => setExplained(wordsOf(close))}
        >
          <Action isPossible={isReady} title={wordsOf(close)} onClick={() => void provoke(close)}>
            Server closes with…
          </Action>
          <select aria-label="Close code" value={code} onChange={(event) => setCode(Number(event.target.value))}>
            {CODES.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </li>
      </Chips>
      {/* Hidden from screen readers, which hear the same with each button. */}
      <p className="hint explained" aria-hidden="true">
        {explained || (login === null ? "Log in first." : "Point at one to learn what to expect, and why.")}
      </p>
      <p className="notice" role="alert" hidden={problem === ""}>
        {problem}
      </p>
    </div>
  );
}

function failuresOfConnections(pane: Pane, login: Login | null, config: Config): Failure[] {
  return [
    {
      name: "Lose the connection",
      code: 1006,
      why: "The server cuts TCP without a word. A retry, as after any bad line.",
      provoke: async () => void pane.send({ type: "fail", how: "lose" }),
    },
    {
      name: "Server error",
      code: 1011,
      why: "The handler raises an exception. A retry with backoff.",
      provoke: async () => void pane.send({ type: "fail", how: "error" }),
    },
    {
      name: "Flood",
      code: 4429,
      why: "A hundred messages at once, where 50 in 5 s are allowed: too_many, and a retry with backoff.",
      provoke: async () => {
        for (let number = 1; number <= FLOOD; number += 1) {
          pane.send({ type: "say", to: "echo", message: `flood ${number}` });
        }
      },
    },
    {
      name: "Too many connections",
      code: 4409,
      why: `${config.max_connections} more of this user, as many as one may have: those before are replaced, and stop.`,
      provoke: () => crowdOut(login!, config),
    },
  ];
}

function wordsOf({ code, why }: Failure): string {
  return `Expect ${code}. ${why}`;
}

interface ChipsProps {
  readonly failures: readonly Failure[];
  readonly isPossible: boolean;
  readonly onClick: (failure: Failure) => Promise<void>;
  readonly explain: (why: string) => void;
  readonly children?: React.ReactNode;
}

function Chips({ failures, isPossible, onClick, explain, children }: ChipsProps) {
  const id = useId();
  return (
    <ul className="chips" role="list">
      {failures.map((failure, place) => {
        const words = wordsOf(failure);
        return (
          <li key={failure.name} onMouseEnter={() => explain(words)} onFocus={() => explain(words)}>
            <Action isPossible={isPossible} describedBy={`${id}-${place}`} onClick={() => void onClick(failure)}>
              {failure.name}
              <span className="code" aria-hidden="true">
                {failure.code}
              </span>
            </Action>
            <span id={`${id}-${place}`} hidden>
              {words}
            </span>
          </li>
        );
      })}
      {children}
    </ul>
  );
}
