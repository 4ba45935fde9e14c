"""Several processes behind one address. The parent starts them, replaces one that died, and ends when they have.

Each is a fork of the parent, which therefore has neither an event loop nor a driver.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.context import ForkProcess

from example_app.serving import SIGNALS
from example_app.terminal import one_line_for_errors, say

_fork = multiprocessing.get_context("fork")

Ready = Callable[[], None]
Work = Callable[[int, Ready], None]
"""Serves as the process of this number until SIGTERM comes, and calls the function once it does serve."""

_PAUSE = 1.0  # seconds between two attempts to replace a process
_LAST_WORDS = 2.0  # seconds that a process may take to end, beside its grace


class Family:
    """The parent's view of ``size`` processes that do ``work``, each of which takes ``grace`` seconds to end."""

    def __init__(self, size: int, work: Work, *, grace: float) -> None:
        self._size = size
        self._work = work
        self._grace = grace
        self._children: dict[int, ForkProcess] = {}  # by their numbers, from 1 on
        self._is_stopping = False

    @property
    def pids(self) -> list[int | None]:
        return [child.pid for child in self._children.values()]

    def start(self) -> None:
        """Start one after another: the first finds out whether it can be done at all. If not, exit as it did."""
        for one in SIGNALS:
            signal.signal(one, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        for number in range(1, self._size + 1):
            status = self._start_child(number)
            if status is not None and not self._is_stopping:
                self._stop()
                self.wait()
                sys.exit(status)

    def wait(self) -> None:
        """Replace who dies, until a signal has ended all."""
        while self._children:
            ended = connection.wait([child.sentinel for child in self._children.values()])
            for number, child in [*self._children.items()]:
                if child.sentinel in ended:
                    child.join()
                    del self._children[number]
                    self._replace(number, child)

    def _replace(self, number: int, dead: ForkProcess) -> None:
        if not self._is_stopping:
            say(f"Process {number} (pid {dead.pid}) {_how_it_ended(dead)}; another takes its place.")
        while not self._is_stopping and self._start_child(number) is not None:
            time.sleep(_PAUSE)  # it has said why

    def _start_child(self, number: int) -> int | None:
        """Start a process and wait until it serves; return its status if it ends before that."""
        with _blocked_signals():
            if self._is_stopping:
                return None
            heard, told = _fork.Pipe(duplex=False)
            child = _fork.Process(target=self._be_child, args=[number, told])
            child.start()
            self._children[number] = child
        told.close()  # the child's is the only one now, and ends with it
        with heard, contextlib.suppress(EOFError):
            heard.recv()
            return None
        child.join()
        del self._children[number]
        return child.exitcode

    def _be_child(self, number: int, told: connection.Connection) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what to do
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        with one_line_for_errors():
            self._work(number, lambda: told.send(number))

    def _stop(self, *_: object) -> None:
        if self._is_stopping:  # whoever asks twice does not want to wait
            self._kill()
        self._is_stopping = True
        for child in self._children.values():
            child.terminate()
        signal.setitimer(signal.ITIMER_REAL, self._grace + _LAST_WORDS)

    def _kill(self, *_: object) -> None:
        for child in self._children.values():
            child.kill()


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Let no signal come between a fork and the list of who is to be told of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _how_it_ended(child: ForkProcess) -> str:
    code = child.exitcode or 0
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
