// Starts server.py for all tests of a run, and ends it by closing its standard input.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

const checkout = fileURLToPath(new URL("../..", import.meta.url));

export default async function setup(project) {
  const python = process.env.WSAUTH_PYTHON ?? "python3";
  const server = spawn(python, ["-m", "tests.javascript.server"], {
    cwd: checkout,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => server.once("close", resolve));
  const port = await Promise.race([
    new Promise((resolve) => createInterface(server.stdout).once("line", resolve)),
    ended.then((code) => {
      throw new Error(`${python} -m tests.javascript.server ended with ${code}; WSAUTH_PYTHON names another Python`);
    }),
  ]);
  project.provide("controlPort", Number(port));
  return async () => {
    server.stdin.end();
    await ended;
  };
}
