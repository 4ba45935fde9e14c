// The page's own logic: who is logged in, which connection is live, what a click means. The protocol is in
// `handshake.js`, the runs through it in `runs.js`, everything visible in `view.js`.

import { ClosedError, HttpError, isServerThere, logIn, logOut } from "./handshake.js";
import { connect, provoke, Run, SCENARIOS, TOKEN, UPGRADE } from "./runs.js";
import { $, announce, el, OutcomePanel, ScenarioButton, StepList, Stream } from "./view.js";

const CLOSED_WORDS = {
  1001: "The server is shutting down. Connect again in a moment.",
  1006: "The connection broke off. The server may be gone; connect again when it is back.",
  1011: "Something went wrong in the server; its terminal says what. Connect again.",
  1012: "The server is restarting. Connect again in a moment.",
  1013: "You read too slowly for what was sent. Connect again.",
  4401: "Your JWT has expired or is not valid any more. Log in again.",
  4403: "You were logged out, here or somewhere else.",
  4408: "The server waited too long for your JWT. Connect again.",
  4429: "You have sent, or opened, more than the server allows. Connect again in a moment.",
  4409: "A newer connection of yours took this one’s place.",
};
const SERVER_GONE = "The server does not answer. Start it with python -m example_app, then connect again.";

let config;
let session = null; // what the last login answered, with `expiresAt` in performance.now() time
let connection = null; // the live one, once it is let in
let liveSince = 0; // when that was, in performance.now() time
let isConnecting = false;
const stream = new Stream();

// The live connection --------------------------------------------------------------------------------------------

async function onConnectClick(event) {
  event.preventDefault();
  if (isConnecting || config === undefined) return;
  if (connection !== null) {
    // A quick handshake ends between the clicks of a double click; the second is not meant to undo it.
    if (performance.now() - liveSince > 600) connection.close();
    return;
  }
  isConnecting = true;
  showStatus("connecting", "Connecting…");
  showNotice(null);
  const steps = new StepList();
  $("live-steps").replaceChildren(steps.element);
  const run = new Run(steps, { username: selectedUser(), password: $("password").value }, isSlow);
  try {
    // Nothing may be awaited between the return of connect() and goLive(): messages would come before a listener.
    const { connection: opened, authOk } = await connect(run, currentSession(), rememberSession);
    goLive(opened, authOk);
  } catch (error) {
    showNotice(await explain(error, run.stoppedAt));
    showStatus("offline", "Not connected");
  } finally {
    isConnecting = false;
  }
}

function goLive(opened, authOk) {
  connection = opened;
  connection.onMessage = show;
  connection.closed.then(onLiveClosed);
  stream.add("session", `connected as ${authOk.user_id}`);
  showStatus("online", `Connected as ${authOk.user_id}`);
  announce(`Connected as ${authOk.user_id}`);
  liveSince = performance.now();
}

function show(message) {
  if (message.type === "echo") {
    stream.add("echo", message.message);
    announce(`Echo: ${message.message}`);
  } else if (message.type === "tick") {
    stream.add("tick", `number ${message.number}`);
  } else if (message.type === "broadcast") {
    stream.add("broadcast", `${message.online} online at ${message.now}`);
  } else if (message.type === "auth_expiring") {
    stream.add("session", `the JWT expires in ${message.expires_in} s`);
    renew();
  } else if (message.type === "auth_ok") {
    stream.add("session", `renewed until ${new Date(message.expires_at * 1000).toLocaleTimeString()}`);
  } else {
    stream.add("session", JSON.stringify(message));
  }
}

/** Get another JWT and send it on the live connection, which goes on as if nothing had happened. */
async function renew() {
  const renewed = connection;
  try {
    const answer = await logIn(session.user_id, config.users[session.user_id]);
    rememberSession(answer);
    renewed.renew(answer.jwt);
  } catch (error) {
    stream.add("session", `no new JWT: ${error.message}`);
  }
}

async function onLogoutClick() {
  try {
    await logOut(session.jwt);
    announce("Logged out everywhere");
  } catch (error) {
    showNotice(await explain(error, TOKEN));
  }
  session = null;
  showStatus(connection === null ? "offline" : "online", connection === null ? "Not connected" : $("status").textContent);
}

function onLiveClosed({ code, reason }) {
  connection = null;
  stream.add("session", `closed with ${code} ${reason}`.trimEnd());
  if (code !== 1000) showNotice(explainClose({ code, reason }));
  showStatus("offline", "Not connected");
  announce("Disconnected");
}

/** Return what to tell the user about a handshake that failed, and forget a JWT that is good for nothing any more. */
async function explain(error, stoppedAt) {
  if (error instanceof HttpError) {
    if (error.status === 0) return SERVER_GONE;
    if (error.status === 401 && stoppedAt === TOKEN) {
      session = null;
      return "Your JWT is not valid any more: it expired, or the server was started with another secret. Log in again.";
    }
    if (error.status === 401) return `Wrong password. ${selectedUser()}’s is “${config.users[selectedUser()]}”.`;
    if (error.status === 429) return "You hold as many unused tokens as the server allows. Try again in half a minute.";
    return `The server answered ${error.message}. Its terminal may say more.`;
  }
  if (error instanceof ClosedError) {
    if (stoppedAt !== UPGRADE) return explainClose(error);
    return (await isServerThere()) ? "The upgrade was refused. The server’s terminal says why." : SERVER_GONE;
  }
  throw error;
}

function explainClose({ code, reason }) {
  if (code === 4401 || code === 4403) session = null;
  return CLOSED_WORDS[code] ?? `The connection was closed with ${code} ${reason}.`;
}

function onSend(event) {
  event.preventDefault();
  const text = $("message").value.trim();
  if (connection === null || text === "") return;
  connection.send(text);
  $("message").value = "";
}

// Who is logged in -----------------------------------------------------------------------------------------------

function rememberSession(answer) {
  session = { ...answer, expiresAt: performance.now() + answer.expires_in * 1000 };
}

function currentSession() {
  // Not in the last half minute: the handshake takes a moment too.
  const isGood = session !== null && session.user_id === selectedUser() && performance.now() < session.expiresAt - 30_000;
  return isGood ? session : null;
}

function selectedUser() {
  return $("login-form").elements.user.value;
}

function onCredentialsChange(event) {
  if (event.target.name === "user") $("password").value = config.users[event.target.value];
  session = null;
  showStatus("offline", "Not connected");
}

// Failures on purpose --------------------------------------------------------------------------------------------

function addScenario(scenario) {
  let panel = null;
  let isRunning = false;
  const button = new ScenarioButton(scenario, async () => {
    if (isRunning) {
      showPanel(scenario.id, panel); // a double click, or a return to a run that takes its time
      return;
    }
    isRunning = true;
    const steps = new StepList();
    panel = new OutcomePanel(scenario, steps);
    steps.onCountdown = (seconds) => button.show("running", `${Math.ceil(seconds)} s`);
    button.show("running", "…");
    showPanel(scenario.id, panel);
    announce(`${scenario.title}: running`);
    const username = selectedUser();
    const otherUsername = Object.keys(config.users).find((name) => name !== username);
    const login = { username, password: config.users[username] };
    const other = { username: otherUsername, password: config.users[otherUsername] };
    const run = new Run(steps, login, isSlow);
    const broadcastsBefore = stream.broadcasts;
    try {
      const outcome = await provoke(scenario, run, { other, authTimeout: config.auth_timeout });
      panel.show(outcome, login, stream.broadcasts - broadcastsBefore);
      button.show(outcome.asPromised ? "refused" : "odd", outcome.code === null ? "?" : String(outcome.code));
      announce(`${scenario.title}: ${outcome.asPromised ? `refused with ${outcome.code}` : "ended otherwise than promised"}`);
    } finally {
      isRunning = false;
    }
  });
  buttons.set(scenario.id, button);
  $("scenarios").append(button.element);
}

const buttons = new Map();

function showPanel(id, panel) {
  for (const [other, button] of buttons) button.isShown = other === id;
  $("outcome").replaceChildren(...panel.content);
  $("outcome").hidden = false;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("outcome").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
}

// The page -------------------------------------------------------------------------------------------------------

function isSlow() {
  return $("slow").checked;
}

function showStatus(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  const isOnline = state === "online";
  // What is disabled below loses the focus, and whoever works the keyboard would start over from the top.
  const disabled = state === "offline" ? $("message-form") : $("credentials");
  if (disabled.contains(document.activeElement)) $("connect").focus({ preventScroll: true });
  $("credentials").disabled = state !== "offline";
  const invitation = currentSession() === null ? "Log in and connect" : "Connect";
  $("connect").textContent = { online: "Disconnect", connecting: "Connecting…", offline: invitation }[state];
  $("connect").className = isOnline ? "" : "primary";
  $("logout").hidden = session === null;
  $("connect").ariaDisabled = String(state === "connecting"); // not disabled: that would take the focus away
  $("message").disabled = $("send").disabled = !isOnline;
  $("message").placeholder = isOnline ? "Say something" : "Connect first";
}

function showNotice(text) {
  $("notice").hidden = text === null;
  $("notice").textContent = text ?? "";
}

function addUser(name, isFirst) {
  const input = el("input", { type: "radio", name: "user", value: name, checked: isFirst });
  $("users").append(el("label", {}, input, el("span", {}, name[0].toUpperCase() + name.slice(1))));
  if (isFirst) $("password").value = config.users[name];
}

async function start() {
  $("live-steps").replaceChildren(new StepList().element);
  $("login-form").addEventListener("submit", onConnectClick);
  $("logout").addEventListener("click", onLogoutClick);
  $("credentials").addEventListener("input", onCredentialsChange);
  $("message-form").addEventListener("submit", onSend);
  try {
    config = await (await fetch("config.json", { cache: "no-store" })).json();
  } catch {
    showNotice("The server does not answer. Start it with python -m example_app, then load this page again.");
    return;
  }
  Object.keys(config.users).forEach((name, index) => addUser(name, index === 0));
  SCENARIOS.forEach(addScenario);
  $("token-store").textContent = config.token_store;
  showStatus("offline", "Not connected");
}

start();
