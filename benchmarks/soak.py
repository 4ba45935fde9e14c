"""Days of misfortune in minutes: ``python -m benchmarks.soak --minutes 10`` loads two servers and breaks things.

Two Tornado processes share a real MongoDB, on which thousands of honest clients and a few hostile ones connect,
talk, renew, leave and return, while the database is killed and paused and the servers are killed and drained. What
the clients saw is held against what the library promises (``soak_ledger``). Exit status: 0 when every promise was
kept, 1 after a breach, 2 for options that cannot be right. Ctrl+C ends it early, with the summary.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import signal
import sys
import time
from typing import Any

from benchmarks.measure import allow_many_files
from benchmarks.soak_clients import Swarm
from benchmarks.soak_faults import BACK_WITHIN, Faults, ServerProcess, free_port, make_replica_set
from benchmarks.soak_hostile import Attackers
from benchmarks.soak_ledger import Ledger
from benchmarks.soak_report import Samples, print_breaches, print_memory, print_summary, progress_line
from benchmarks.soak_server import TOKEN_TTL
from benchmarks.soak_sockets import Login, Server

PROGRESS_EVERY = 10  # seconds
CALM_AT_THE_END = 15.0  # seconds without a new fault
SETTLE = 8.0  # seconds after the last goodbye: Tornado waits 5 for the answer to a close frame


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, replica_set: Any) -> None:
        chance = random.Random(options.seed)
        key = secrets.token_urlsafe(32)
        self.options = options
        self.ledger = Ledger(TOKEN_TTL)
        self.servers = [Server(name, free_port(chance)) for name in ("A", "B")]
        self.processes = [ServerProcess(server, replica_set.uri, key, options.tick_ms) for server in self.servers]
        self.login = Login(key, self.ledger)
        shared = self.servers, self.login, self.ledger
        self.swarm = Swarm(*shared, chance.randrange(2**32), options.clients)
        self.attackers = Attackers(*shared, chance.randrange(2**32), round(options.clients * options.hostile / 100))
        self.faults = Faults(self.processes, replica_set, self.swarm.wait_until_all_back, self.say, chance)
        self.samples = Samples(self.ledger)
        self.before: dict[str, dict[str, Any]] = {}
        """What each server had before anybody came."""
        self.left_over: dict[str, dict[str, Any]] = {}
        """What each server still had when everybody had left."""
        self.stopped = asyncio.Event()

    def say(self, text: str) -> None:
        """Print a line with the time it has been going on."""
        print(f"{self.samples.elapsed():6.0f} s  {text}", flush=True)

    async def run(self) -> None:
        """Start everything, wait for the end, and take everything down."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.stopped.set)
        try:
            await asyncio.gather(*(process.start() for process in self.processes))
            self.before = await self._states()
            self.samples.begin()
            self.swarm.start()
            self.attackers.start()
            tasks = [loop.create_task(task) for task in (self._break_things(), self._log_out(), self._watch())]
            waiting = loop.create_task(self.stopped.wait())
            await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, waiting):
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result
            self.samples.finish(self.processes)
            await self._say_goodbye()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            self.login.close()
            await asyncio.gather(*(process.kill() for process in self.processes))

    async def _break_things(self) -> None:
        """Cause faults while there is time, then let everybody come back, and end the run."""
        ends_at = time.time() + self.options.minutes * 60
        await asyncio.sleep(self.swarm.ramp_seconds + 3)
        if self.options.fault_every:
            await self.faults.run(self.options.fault_every, ends_at - CALM_AT_THE_END)
        await asyncio.sleep(max(0, ends_at - time.time()))
        await self.swarm.wait_until_all_back(ends_at, BACK_WITHIN)

    async def _log_out(self) -> None:
        """Log users out, at the pace of one in a thousand a second."""
        await asyncio.sleep(self.swarm.ramp_seconds)
        while True:
            await asyncio.sleep(self.swarm.random.expovariate(max(0.5, self.options.clients / 1000)))
            self.attackers.outcomes["user logged out", await self.swarm.log_out()] += 1

    async def _watch(self) -> None:
        """Look, once a second, for what should have happened, and print a line now and then."""
        second = 0
        while True:
            before = time.time()
            await asyncio.sleep(1)
            second += 1
            now = time.time()
            self.samples.take(len(self.swarm.inside), now - before - 1, self.processes)
            self.ledger.look(now)
            self.swarm.check()
            self.attackers.check()
            self._look_for_stuck(now)
            if not self.faults.now:
                for process in self.processes:
                    process.check()
            if second % PROGRESS_EVERY == 0:
                self.say(progress_line(self.samples, self.faults))

    def _look_for_stuck(self, now: float) -> None:
        if self.faults.now:
            return
        for client in self.swarm.clients:
            since = client.waiting_since
            if since is not None and not client.told and now - max(since, self.faults.ended_at) > BACK_WITHIN:
                client.told = True
                self.ledger.breach("everybody comes back", f"{client.user} has not got in for {now - since:.0f} s")

    async def _say_goodbye(self) -> None:
        """Have all clients leave, and look what the servers keep of them."""
        self.say("everybody leaves")
        await self.attackers.stop()
        await self.swarm.stop()
        await asyncio.sleep(SETTLE)
        self.left_over = await self._states()
        for name, state in self.left_over.items():
            if any(state["connections"]):
                self.ledger.breach("nothing left over", f"{name}: {state['connections']} connections")

    async def _states(self) -> dict[str, dict[str, Any]]:
        """Ask the servers how they are; one that is down is left out."""
        states = {}
        for server in self.servers:
            with contextlib.suppress(OSError, TimeoutError):
                _, _, states[server.name] = await asyncio.wait_for(self.login.post(server, "/admin/state"), 10)
        return states


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options; ends the process with status 2 for those that cannot be right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="how long the load stands (default: 10)")
    add("--clients", type=int, default=2000, help="honest clients (default: 2000)")
    add("--hostile", type=float, default=2, help="hostile ones, in per cent of these (default: 2)")
    add("--fault-every", type=float, default=20, help="seconds between faults, on average; 0: none (default: 20)")
    add("--tick-ms", type=float, default=500, help="milliseconds between broadcasts (default: 500)")
    add("--members", type=int, default=1, help="of the MongoDB replica set (default: 1)")
    add("--seed", type=int, default=None, help="of what is left to chance (default: another each time)")
    add("--quick", action="store_true", help="a glance: 1 minute, 300 clients, a fault every 3 seconds")
    options = parser.parse_args(arguments)
    if options.quick:
        options.minutes, options.clients, options.fault_every = 1, 300, 3
    if not (0 < options.minutes < 1e5 and options.tick_ms > 0 and options.clients > 0):
        parser.error("--minutes, --clients and --tick-ms must be positive")
    if not (0 <= options.hostile <= 100 and options.fault_every >= 0):
        parser.error("--hostile must be from 0 to 100, and --fault-every not negative")
    if not 1 <= options.members <= 7:
        parser.error("--members must be from 1 to 7")
    files = allow_many_files()
    if files < 2 * options.clients + 1000:
        parser.error(f"--clients {options.clients}: only {files} files may be open; see ulimit -n")
    if options.seed is None:
        options.seed = secrets.randbelow(10**6)
    return options


async def soak(options: argparse.Namespace, replica_set: Any) -> Soak:
    """Run once, and return what was seen."""
    this = Soak(options, replica_set)
    await this.run()
    return this


def main() -> None:
    options = parse_options()
    try:
        replica_set = make_replica_set(options.members, random.Random(options.seed))
    except Exception as error:  # not installed, or nothing to start
        print(f"There must be a MongoDB to kill: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.clients} clients, {options.minutes:g} minutes, --seed {options.seed}", flush=True)
    with replica_set:
        this = asyncio.run(soak(options, replica_set))
    print_summary(this.samples, this.faults, this.swarm, this.attackers)
    print_memory(this.samples, this.before, this.left_over)
    print_breaches(this.ledger)
    sys.exit(1 if this.ledger.broken else 0)


if __name__ == "__main__":
    main()
