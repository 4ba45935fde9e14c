"""The namespace in which a page's Python blocks run: the near end of ``worker.py``."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.docs.blocks import Block

WORKER = Path(__file__).parent / "worker.py"
TIMEOUT = 60.0  # seconds that a block may take


class Namespace:
    """One Python process, started when the first block needs it."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()

    def run(self, block: Block, code: str) -> str:
        """Run ``code``, which is that of ``block``; return what it printed. Raises `PageError`."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"code": code, "file": str(block.page), "line": block.line}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
        if not ready:
            raise block.wrong(f"did not end within {TIMEOUT:.0f} s\n{self._what_it_said()}")
        line = process.stdout.readline()
        if not line:
            raise block.wrong(f"ended the Python process\n{self._what_it_said()}")
        answer = json.loads(line)
        if answer["error"]:
            raise block.wrong(f"{answer['error']}{answer['printed']}{self._what_it_said()}", answer["line"])
        printed: str = answer["printed"]
        return printed

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._said.close()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            cwd=self._directory,
            env=self._environment,
        )
        return self._process

    def _what_it_said(self) -> str:
        self._said.seek(0)
        return self._said.read()[-4000:]
