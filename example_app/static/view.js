// What is on the page and how it changes. It decides nothing: `app.js` tells it what happened.

const MAX_ROWS = 100;

const STEPS = [
  ["Log in", "Name and password become a JWT, good for 15 minutes."],
  ["Ask for a connection token", "The JWT buys a random token: one use, 30 seconds."],
  ["Open the WebSocket", "The token is redeemed before the upgrade. No token, no socket."],
  ["Send the JWT first", "The socket is open, but only a JWT is heard."],
  ["Be let in", "Token and JWT are the same user’s: messages begin to flow."],
];

export const $ = (id) => document.getElementById(id);

/** Make an element: `el("p", {className: "note"}, "text", child)`. Text stays text, whatever it contains. */
export function el(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** Tell those who listen rather than look. */
export function announce(text) {
  $("announcer").textContent = text;
}

/** The five steps of one run, with the gate before the last of them. */
export class StepList {
  constructor() {
    this.items = STEPS.map(([title, summary], number) => new StepItem(number + 1, title, summary));
    this.gate = new Gate();
    const items = this.items.map((item) => item.element);
    items.splice(4, 0, this.gate.element);
    this.element = el("ol", { className: "steps" }, ...items);
    this.element.setAttribute("role", "list"); // Safari forgets that it is one when there are no bullets
    this.onCountdown = () => {};
  }

  begin(number) {
    this.items[number].state = "active";
  }

  end(number, state, milliseconds, failure = null) {
    const item = this.items[number];
    item.state = state;
    item.time.textContent = formatMilliseconds(milliseconds);
    item.clock?.remove();
    if (failure !== null) item.line("received", failure, true);
    if (number === 4 && state === "done") this.gate.open();
    if (state === "failed") {
      this.gate.stop();
      announce(`Step ${number + 1}, ${STEPS[number][0]}, failed: ${failure}`);
    }
  }

  skip(number, note) {
    this.items[number].state = "skipped";
    this.note(number, note);
  }

  /** The step need not be taken: an earlier run has done it. */
  reuse(number, text) {
    this.items[number].state = "done";
    this.items[number].summary.textContent = text;
  }

  note(number, text) {
    this.items[number].note(text);
  }

  watch(connection) {
    this.gate.watch(connection);
  }

  voice(number) {
    const item = this.items[number];
    return {
      sent: (text) => item.line("sent", text),
      received: (text) => item.line("received", text),
      countdown: (seconds) => {
        item.countdown(seconds);
        this.onCountdown(seconds);
      },
    };
  }
}

class StepItem {
  constructor(number, title, summary) {
    this.time = el("span", { className: "time" });
    this.stateText = el("span", { className: "visually-hidden" });
    this.summary = el("p", { className: "summary" }, summary);
    this.wire = el("div", { className: "wire" });
    this.element = el(
      "li",
      { className: "step" },
      el("span", { className: "marker", ariaHidden: "true" }, String(number)),
      el(
        "div",
        { className: "body" },
        el("h3", {}, title, this.stateText, this.time),
        this.summary,
        this.wire,
      ),
    );
    this.state = "idle";
  }

  set state(state) {
    this.element.dataset.state = state;
    this.stateText.textContent = { idle: "", active: " (running)", done: " (done)" }[state] ?? ` (${state})`;
  }

  note(text) {
    this.summary.textContent = text;
    this.summary.dataset.note = "";
  }

  line(direction, text, isFailure = false) {
    const arrow = direction === "sent" ? "→" : "←";
    this.wire.append(
      el(
        "p",
        { dataset: { direction, ...(isFailure && { failure: "" }) } },
        el("span", { className: "arrow", ariaHidden: "true" }, arrow),
        el("span", { className: "visually-hidden" }, `${direction}: `),
        el("code", {}, text),
      ),
    );
  }

  countdown(seconds) {
    if (!this.clock) {
      this.clock = el("p", { className: "countdown", role: "timer" });
      this.clock.setAttribute("aria-live", "off");
      this.wire.append(this.clock);
    }
    this.clock.textContent = `The server hangs up in ${seconds.toFixed(1)} s`;
  }
}

/** The line that nothing crosses before `auth_ok`, and the count that proves it. */
class Gate {
  constructor() {
    this.count = el("strong", {}, "0");
    this.text = el("span", {}, " messages came through before auth_ok");
    this.element = el("li", { className: "gate", dataset: { state: "shut" } }, el("p", {}, this.count, this.text));
  }

  watch(connection) {
    this.connection = connection;
    this.since = performance.now();
    this.element.dataset.state = "watching";
    this.timer = setInterval(() => this.#show(), 100);
    connection.closed.then(() => this.stop());
  }

  open() {
    this.stop();
    this.element.dataset.state = "open";
  }

  stop() {
    if (this.timer === undefined) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.element.dataset.state = "shut";
    this.#show();
  }

  #show() {
    const waited = formatMilliseconds(performance.now() - this.since);
    const { earlyMessages } = this.connection;
    this.count.textContent = String(earlyMessages);
    this.text.textContent = ` ${earlyMessages === 1 ? "message" : "messages"} before auth_ok, in ${waited} of open socket`;
    if (earlyMessages) this.element.dataset.broken = "";
  }
}

/** The messages of the live connection: newest first, so that what is new is in sight; bounded, so that it may run on. */
export class Stream {
  #counts = { echo: 0, tick: 0, broadcast: 0 };

  add(kind, text) {
    $("stream-empty").hidden = true;
    if (kind in this.#counts) $(`count-${kind}`).textContent = String((this.#counts[kind] += 1));
    const now = new Date();
    $("stream").prepend(
      el(
        "li",
        { dataset: { kind } },
        el("span", { className: "kind" }, kind),
        el("span", { className: "text" }, text),
        el("time", { dateTime: now.toISOString() }, formatTime(now)),
      ),
    );
    while ($("stream").children.length > MAX_ROWS) $("stream").lastElementChild.remove();
  }

  get broadcasts() {
    return this.#counts.broadcast;
  }
}

/** One button under "Provoke a failure". */
export class ScenarioButton {
  constructor(scenario, onClick) {
    this.badge = el("span", { className: "badge" });
    this.button = el(
      "button",
      { type: "button", className: "scenario", onclick: onClick, dataset: { state: "idle" } },
      el("span", { className: "title" }, scenario.title, this.badge),
      el("span", { className: "summary" }, scenario.summary),
    );
    this.element = el("li", {}, this.button);
  }

  show(state, badge) {
    this.button.dataset.state = state;
    this.badge.textContent = badge;
  }

  set isShown(isShown) {
    this.button.setAttribute("aria-pressed", String(isShown));
  }
}

/** What a failure run looked like: its steps, and beside them what they mean. */
export class OutcomePanel {
  constructor(scenario, steps) {
    this.scenario = scenario;
    this.verdict = el(
      "div",
      { className: "verdict" },
      el("p", { className: "where" }, "Under way"),
      el("p", { className: "words" }, "The verdict follows as soon as the server has given it."),
    );
    this.content = [
      el("div", {}, el("h3", { className: "outcome-title" }, scenario.title), steps.element),
      this.verdict,
    ];
  }

  show(outcome, login, broadcasts) {
    const { expect, words, advice } = this.scenario;
    this.verdict.dataset.state = outcome.asPromised ? "refused" : "odd";
    if (!outcome.asPromised) {
      this.verdict.replaceChildren(...unexpected(outcome));
      return;
    }
    const isRefusal = expect.status !== undefined;
    const facts = isRefusal
      ? [
          ["Your browser saw", "1006 and nothing else. No page ever learns more about an upgrade that failed."],
          ["The server answered", el("code", {}, `HTTP ${expect.status} {"error":"token_invalid"}`), ", the same whatever is wrong with a token."],
        ]
      : [["Your browser saw", el("code", {}, `${outcome.code} ${outcome.reason}`), " in the close frame."]];
    const user = expect.log === "token_missing" ? "None" : `'${login.username}'`;
    facts.push(
      ["The server’s log says", el("code", {}, `refused ${expect.log}: user=${user} …`)],
      ["A client should", advice],
    );
    if (broadcasts > 0) {
      facts.push([
        "Meanwhile",
        `${broadcasts} ${broadcasts === 1 ? "broadcast" : "broadcasts"} reached your live connection, and none this one.`,
      ]);
    }
    this.verdict.replaceChildren(
      el(
        "p",
        { className: "code" },
        el("strong", {}, String(outcome.code)),
        el("span", {}, isRefusal ? "abnormal closure" : outcome.reason),
      ),
      el("p", { className: "where" }, `${isRefusal ? "Upgrade refused" : "Closed by the server"} at step ${outcome.step + 1} of 5`),
      el("p", { className: "words" }, words),
      el("dl", {}, ...facts.flatMap(([term, ...rest]) => [el("dt", {}, term), el("dd", {}, ...rest)])),
    );
  }
}

function unexpected(outcome) {
  if (outcome.isServerGone) {
    return [
      el("p", { className: "where" }, "No verdict"),
      el("p", { className: "words" }, "The server does not answer. Start it again, then repeat this."),
    ];
  }
  const end = outcome.step === null ? "It was let in" : `It stopped at step ${outcome.step + 1} with ${outcome.code ?? `HTTP ${outcome.status}`} ${outcome.reason}`;
  return [
    el("p", { className: "where" }, "Not what the protocol promises"),
    el("p", { className: "words" }, `${end}. The server’s terminal may say why.`),
  ];
}

function formatMilliseconds(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds)} ms`;
}

function formatTime(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}
