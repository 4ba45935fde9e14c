// The other end of server.py: a test makes a Tornado application of its own, tells it what to do and asks what it saw.
import { inject, onTestFinished } from "vitest";

// Whatever fake timers a test installs, these are the real ones.
const { setTimeout: sleep, fetch } = globalThis;

/** Tells the server's process something, and returns its answer. */
async function order(what) {
  const response = await fetch(`http://127.0.0.1:${inject("controlPort")}/`, {
    method: "POST",
    body: JSON.stringify(what),
  });
  if (!response.ok) throw new Error(`server.py answers ${response.status} to ${JSON.stringify(what)}`);
  return (await response.json()).result;
}

/** Starts an application with these options of `WSAuth`; it ends with the test. */
export async function newSite(options = {}) {
  const port = await order({ do: "make_site", options });
  onTestFinished(() => order({ do: "end_site", arguments: [port] }));
  return new Site(port);
}

class Site {
  constructor(port) {
    this.port = port;
    this.tokenUrl = `http://127.0.0.1:${port}/ws/token`;
    this.chat = `ws://127.0.0.1:${port}/ws/chat`;
    this.rude = `ws://127.0.0.1:${port}/ws/rude`;
  }

  /** Calls a method of server.py's `Site`. */
  tell(name, ...args) {
    return order({ port: this.port, do: name, arguments: args });
  }

  /** Says what `/ws/rude` does: `{on_open, on_message, close}`. */
  play(script) {
    return order({ port: this.port, do: "play", options: script });
  }

  makeJwt(user = "alice", seconds = 600) {
    return this.tell("make_jwt", user, seconds);
  }

  /** Returns what happened so far, of one kind or of all, in order. */
  async events(kind) {
    const { events } = await this.tell("seen");
    return kind === undefined ? events : events.filter((event) => event.event === kind);
  }

  /** Returns the messages that reached the application. */
  async messages() {
    return (await this.events("message")).map((event) => event.data);
  }

  /** Returns how many sockets there are, those not yet authenticated among them. */
  async sockets() {
    return (await this.tell("seen")).sockets;
  }

  /** Resolves once so many events of this kind have happened. */
  async saw(kind, times = 1) {
    return eventually(async () => {
      const events = await this.events(kind);
      if (events.length < times) throw new Error(`${events.length} × "${kind}" instead of ${times}`);
      return events;
    });
  }

  /** Resolves once no socket is left. */
  async isEmpty() {
    return eventually(async () => {
      const count = await this.sockets();
      if (count > 0) throw new Error(`${count} sockets are left at the server`);
    });
  }
}

/** Resolves to what `check` returns once it throws no more; rejects with its error after some seconds of real time. */
export async function eventually(check, milliseconds = 4000) {
  const end = realNow() + milliseconds;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (realNow() > end) throw error;
    }
    await new Promise((resolve) => sleep(resolve, 10));
  }
}

/** Returns when what is under way has come about, as far as it waits for no timer: for what must not happen. */
export async function settle(site) {
  for (let round = 0; round < 3; round += 1) {
    await site?.tell("seen");
    await new Promise((resolve) => sleep(resolve, 5));
  }
}

/** Returns milliseconds that no fake timer touches. */
function realNow() {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
