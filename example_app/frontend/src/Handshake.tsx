import { formatMilliseconds } from "./format";
import { STEPS, type PaneLog, type Step, type StepName } from "./paneLog";

const TITLES: Record<StepName, string> = {
  jwt: "Fetch a JWT",
  token: "Buy a connection token",
  upgrade: "Open the WebSocket",
  authenticate: "Send the JWT first",
  ready: "Be let in",
};

const SUMMARIES: Record<StepName, string> = {
  jwt: "It says who you are, for a minute.",
  token: "The JWT buys a random one: good once, gone after 30 s.",
  upgrade: "The server redeems it before the upgrade. No token, no socket.",
  authenticate: "The socket is open, but only a JWT is heard.",
  ready: "Token and JWT are the same user’s: messages begin to flow.",
};

const SPOKEN = { todo: "", now: " (under way)", done: " (done)", failed: " (failed)" };

/** The five steps of the newest attempt, with what went over the wire. */
export function Handshake({ steps }: { readonly steps: PaneLog["steps"] }) {
  return (
    <div className="part">
      <h3>The handshake</h3>
      <ol className="steps" role="list">
        {STEPS.map((name, place) => (
          <StepItem key={name} name={name} place={place + 1} step={steps[name]} />
        ))}
      </ol>
    </div>
  );
}

function StepItem({ name, place, step }: { readonly name: StepName; readonly place: number; readonly step: Step }) {
  return (
    <li className="step" data-step={name} data-status={step.status}>
      <span className="marker" aria-hidden="true">
        {place}
      </span>
      <div className="step-body">
        <h4>
          <span>
            {name === "ready" && step.status === "failed" ? "Let in, and out again" : TITLES[name]}
            <span className="visually-hidden">{SPOKEN[step.status]}</span>
          </span>
          <span className="took">{step.took === null ? "" : formatMilliseconds(step.took)}</span>
        </h4>
        {step.wire.length === 0 ? (
          <p className="summary">{SUMMARIES[name]}</p>
        ) : (
          <div className="wire">
            {step.wire.map((line, index) => (
              <p key={index} data-direction={line.direction}>
                <span aria-hidden="true">{line.direction === "sent" ? "→" : "←"}</span>
                <span className="visually-hidden">{line.direction}: </span>
                <code>{line.text}</code>
              </p>
            ))}
          </div>
        )}
      </div>
    </li>
  );
}
