// What has happened in one pane, as a pure reducer: the steps of the newest attempt, the history, the messages.

import type { Close } from "tornado-wsauth";

export const STEPS = ["jwt", "token", "upgrade", "authenticate", "ready"] as const;
export type StepName = (typeof STEPS)[number];
export type StepStatus = "todo" | "now" | "done" | "failed";

export interface WireLine {
  readonly direction: "sent" | "received";
  readonly text: string;
}

export interface Step {
  readonly status: StepStatus;
  readonly since: number;
  /** Milliseconds it took, once it is over. */
  readonly took: number | null;
  readonly wire: readonly WireLine[];
}

export const KINDS = ["echo", "tick", "broadcast", "group", "session"] as const;
export type Kind = (typeof KINDS)[number];

export interface StreamItem {
  readonly id: number;
  readonly at: number;
  readonly kind: Kind;
  readonly text: string;
}

export interface HistoryItem {
  readonly id: number;
  readonly at: number;
  readonly event: "close" | "ready" | "renewed" | "sabotage" | "login" | "logout";
  readonly text: string;
  readonly close?: Close;
}

export interface PaneLog {
  readonly steps: Readonly<Record<StepName, Step>>;
  /** Newest first. */
  readonly history: readonly HistoryItem[];
  /** Newest first. */
  readonly stream: readonly StreamItem[];
  readonly counts: Readonly<Record<Kind, number>>;
  /** Round trips in milliseconds, oldest first. */
  readonly latencies: readonly number[];
  /** When the next attempt comes, in milliseconds since 1970, while one is waited for. */
  readonly waitUntil: number | null;
  readonly lastId: number;
}

export type LogEvent = { readonly at: number } & (
  | { readonly type: "step"; readonly step: StepName; readonly clock: number }
  | { readonly type: "wire"; readonly step: StepName; readonly line: WireLine }
  | { readonly type: "close"; readonly close: Close; readonly clock: number }
  | { readonly type: "note"; readonly event: HistoryItem["event"]; readonly text: string }
  | { readonly type: "message"; readonly kind: Kind; readonly text: string }
  | { readonly type: "latency"; readonly milliseconds: number }
);

const MAX_STREAM = 200;
const MAX_HISTORY = 100;
const MAX_LATENCIES = 60;

const UNTOUCHED: Step = { status: "todo", since: 0, took: null, wire: [] };
const NO_STEPS: PaneLog["steps"] = {
  jwt: UNTOUCHED,
  token: UNTOUCHED,
  upgrade: UNTOUCHED,
  authenticate: UNTOUCHED,
  ready: UNTOUCHED,
};

export const EMPTY: PaneLog = {
  steps: NO_STEPS,
  history: [],
  stream: [],
  counts: { echo: 0, tick: 0, broadcast: 0, group: 0, session: 0 },
  latencies: [],
  waitUntil: null,
  lastId: 0,
};

export function reduce(log: PaneLog, event: LogEvent): PaneLog {
  switch (event.type) {
    case "step":
      return { ...log, waitUntil: null, steps: begin(log.steps, event.step, event.clock) };
    case "wire": {
      const step = log.steps[event.step];
      return { ...log, steps: { ...log.steps, [event.step]: { ...step, wire: [...step.wire, event.line] } } };
    }
    case "close": {
      const { close } = event;
      return remember(
        {
          ...log,
          steps: close.reason === "disconnected" ? NO_STEPS : fail(log.steps, close, event.clock),
          latencies: [],
          waitUntil: close.retryIn === null ? null : event.at + close.retryIn,
        },
        { at: event.at, event: "close", text: close.words, close },
      );
    }
    case "note": {
      // Whoever logs in sees none of the messages of who was here before.
      const kept = event.event === "login" ? { ...log, stream: EMPTY.stream, counts: EMPTY.counts } : log;
      return remember(kept, { at: event.at, event: event.event, text: event.text });
    }
    case "message": {
      const item = { id: log.lastId + 1, at: event.at, kind: event.kind, text: event.text };
      return {
        ...log,
        lastId: item.id,
        stream: [item, ...log.stream].slice(0, MAX_STREAM),
        counts: { ...log.counts, [event.kind]: log.counts[event.kind] + 1 },
      };
    }
    case "latency":
      return { ...log, latencies: [...log.latencies, event.milliseconds].slice(-MAX_LATENCIES) };
  }
}

function remember(log: PaneLog, item: Omit<HistoryItem, "id">): PaneLog {
  const id = log.lastId + 1;
  return { ...log, lastId: id, history: [{ id, ...item }, ...log.history].slice(0, MAX_HISTORY) };
}

function begin(steps: PaneLog["steps"], name: StepName, clock: number): PaneLog["steps"] {
  const before = name === "jwt" ? NO_STEPS : finish(steps, "done", clock);
  // `ready` is no step that takes time: being there is what it is.
  const status = name === "ready" ? "done" : "now";
  return { ...before, [name]: { ...before[name], status, since: clock } };
}

/** The step that is under way ends like this. */
function finish(steps: PaneLog["steps"], status: "done" | "failed", clock: number): PaneLog["steps"] {
  const name = STEPS.find((step) => steps[step].status === "now");
  if (name === undefined) return steps;
  return { ...steps, [name]: { ...steps[name], status, took: clock - steps[name].since } };
}

function fail(steps: PaneLog["steps"], close: Close, clock: number): PaneLog["steps"] {
  const name = STEPS.find((step) => steps[step].status === "now") ?? "ready";
  const failed = name === "ready" ? { ...steps, ready: { ...steps.ready, status: "failed" as const } } : steps;
  const ended = finish(failed, "failed", clock);
  const line: WireLine = { direction: "received", text: `${close.code ?? "no socket"} ${close.reason}`.trimEnd() };
  return { ...ended, [name]: { ...ended[name], wire: [...ended[name].wire, line] } };
}
