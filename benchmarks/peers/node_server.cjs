// The servers on Node that benchmarks.fanout compares: node --expose-gc node_server.cjs ws|socketio [PATH]
// The commands and answers, and what is measured how, are those of benchmarks/fanout_servers.py.
"use strict";

const http = require("node:http");
const HOUR = 3600 * 1000; // milliseconds

function startWs(server) {
  const { WebSocket, WebSocketServer } = require("ws");
  const wss = new WebSocketServer({ server, perMessageDeflate: false });
  return (message) => {
    const data = Buffer.from(message); // once, as its documentation does
    for (const client of wss.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
    }
  };
}

function startSocketIO(server) {
  const { Server } = require("socket.io");
  const io = new Server(server, {
    transports: ["websocket"],
    perMessageDeflate: false,
    serveClient: false,
    pingInterval: HOUR,
    pingTimeout: HOUR,
  });
  return (message) => io.emit("message", message);
}

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const monotonic = () => Number(process.hrtime.bigint()) / 1e9; // the clock of Python's time.monotonic
const say = (object) => process.stdout.write(JSON.stringify(object) + "\n");

const server = http.createServer();
const broadcast = { ws: startWs, socketio: startSocketIO }[process.argv[2]](server);

let line = "";
let cpu = 0; // seconds, of the broadcasts that are over
let cpuBefore = null; // while a broadcast is being made
let stall = 0; // seconds between two turns of the loop, the longest
let turned = null; // when the loop turned last, while it is watched

function turn() {
  if (turned === null) return;
  const now = monotonic();
  stall = Math.max(stall, now - turned);
  turned = now;
  setImmediate(turn);
}

function obey(command) {
  if (command.do === "broadcast") {
    const message = String(command.number).padStart(10, "0").padEnd(command.size, "m");
    say({ result: monotonic() });
    if (command.watched) {
      turned = monotonic();
      setImmediate(turn);
    } else {
      cpuBefore = cpuSeconds();
    }
    broadcast(message);
  } else if (command.do === "figures") {
    say({ result: { cpu, stall } });
    cpu = stall = 0;
  } else if (command.do === "memory") {
    global.gc();
    say({ result: process.memoryUsage.rss() });
  } else {
    throw new Error(command.do);
  }
}

process.stdin.on("data", (data) => {
  if (cpuBefore !== null) cpu += cpuSeconds() - cpuBefore;
  cpuBefore = turned = null;
  line += data;
  if (!line.endsWith("\n")) return;
  const command = JSON.parse(line);
  line = "";
  obey(command);
});
process.stdin.on("end", () => process.exit());
const unix = process.argv[3]; // the path of a Unix-domain socket, if that is what to listen on
const where = unix ? { path: unix } : { port: 0, host: "127.0.0.1" };
server.listen({ ...where, backlog: 1024 }, () => say({ port: unix ? 0 : server.address().port }));
