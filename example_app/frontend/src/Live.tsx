// The messages of the application: a form to send some, groups to be in, and what comes.

import { memo, useState, type FormEvent } from "react";
import { formatTime } from "./format";
import { KINDS, type Kind, type StreamItem } from "./paneLog";
import type { Pane } from "./usePane";

interface Props {
  readonly pane: Pane;
  readonly side: string;
  readonly groups: readonly string[];
}

const COUNTED: Record<Kind, string> = {
  echo: "Echoes",
  tick: "Ticks",
  broadcast: "Broadcasts",
  group: "To groups",
  session: "Of the session",
};

export function Live({ pane, side, groups }: Props) {
  return (
    <div className="part">
      <h3>Live messages</h3>
      <MessageForm pane={pane} side={side} groups={groups} />
      <fieldset className="groups">
        <legend className="label">Groups</legend>
        {groups.map((group) => (
          <label key={group} className="check" data-group={group}>
            <input
              type="checkbox"
              checked={pane.groups.has(group)}
              onChange={(event) => pane.setMember(group, event.target.checked)}
            />
            <span>{group}</span>
          </label>
        ))}
      </fieldset>
      <dl className="counts">
        {KINDS.map((kind) => (
          <div key={kind}>
            <dt data-kind={kind}>{COUNTED[kind]}</dt>
            <dd data-count={kind}>{pane.log.counts[kind]}</dd>
          </div>
        ))}
      </dl>
      <Stream items={pane.log.stream} side={side} />
    </div>
  );
}

function MessageForm({ pane, side, groups }: Props) {
  const [text, setText] = useState("");
  const [target, setTarget] = useState("echo");
  const [problem, setProblem] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (text === "") return;
    const isSent = pane.state !== "stopped" && pane.send({ type: "say", to: target, message: text });
    setProblem(isSent ? "" : "Not sent: this client is not connected.");
    if (isSent) setText("");
  };
  return (
    <form className="message-form" autoComplete="off" onSubmit={submit}>
      <div className="field grow">
        <label className="label" htmlFor={`${side}-message`}>
          Message
        </label>
        <input
          id={`${side}-message`}
          type="text"
          maxLength={500}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      <div className="field">
        <label className="label" htmlFor={`${side}-target`}>
          To
        </label>
        <select id={`${side}-target`} value={target} onChange={(event) => setTarget(event.target.value)}>
          {["echo", ...groups].map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </div>
      <button type="submit">Send</button>
      <p className="notice" role="alert" hidden={problem === ""}>
        {problem}
      </p>
    </form>
  );
}

// Not a live region: a screen reader would never come to an end. The list is there to be read when one wants to.
function Stream({ items, side }: { readonly items: readonly StreamItem[]; readonly side: string }) {
  if (items.length === 0) {
    return (
      <p className="empty">
        Nothing yet. What you send comes back as an echo, each connection has ticks of its own, and broadcasts go to
        everyone who is in.
      </p>
    );
  }
  return (
    <div
      className="scroll stream"
      tabIndex={0}
      role="log"
      aria-live="off"
      aria-label={`Messages of the ${side} pane, newest first`}
    >
      <ol role="list">
        {items.map((item) => (
          <Message key={item.id} item={item} />
        ))}
      </ol>
    </div>
  );
}

const Message = memo(function Message({ item }: { readonly item: StreamItem }) {
  return (
    <li data-kind={item.kind}>
      <span className="kind">{item.kind}</span>
      <span className="text">{item.text}</span>
      <time dateTime={new Date(item.at).toISOString()}>{formatTime(item.at)}</time>
    </li>
  );
});
