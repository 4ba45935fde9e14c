"""A real Prometheus, its promtool, and what we ship for it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from tornado.httpclient import AsyncHTTPClient

from tests.mongod import NO_SKIP_VARIABLE
from tornado_wsauth.metrics import Metrics

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "example_app" / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
RULE_TESTS = DEPLOY / "prometheus" / "alerts_test.yml"
CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
PAGE = CHECKOUT / "docs" / "operations.md"

SCRAPE_INTERVAL = "200ms"


def require(binary: str) -> str:
    """Return the path of ``binary``; skip the test where there is none, or fail it where nothing may be skipped."""
    found = shutil.which(binary)
    if found is None:
        missing = f"no {binary} on the PATH: install it (Debian: apt-get install prometheus)"
        if os.environ.get(NO_SKIP_VARIABLE):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found


def promtool(*arguments: str, text: str = "") -> tuple[int, str]:
    """Return the status of promtool and what it says."""
    done = subprocess.run([require("promtool"), *arguments], input=text, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def process_registry() -> CollectorRegistry:
    """Return a registry with what Prometheus' client tells of a process, too."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def registered() -> set[str]:
    """Return the names of what `Metrics` registers, as they are written in PromQL, and in the table of the page."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


def named(text: str) -> set[str]:
    """Return the names of our metrics in ``text``; a histogram's without the suffix of its series."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"(?<![\w.])wsauth_\w+", text)}


def dashboard() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return parsed


def panel_expressions() -> list[tuple[str, str]]:
    """Return the title of each panel and each of its expressions, with Grafana's variables filled in."""
    found = []
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found.append((panel["title"], with_variables(target["expr"])))
    return found


def with_variables(expression: str) -> str:
    """Do what Grafana does when "All" is chosen."""
    for variable, value in {"$__rate_interval": "10s", "$job": ".*", "$instance": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression


class Prometheus:
    """One Prometheus that scrapes these ports and evaluates the rules that we ship."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        configuration = folder / "prometheus.json"  # which is YAML as well
        targets = [f"127.0.0.1:{port}" for port in ports]
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
                    "rule_files": [str(RULES)],
                    "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": targets}]}],
                }
            )
        )
        self._http = AsyncHTTPClient(force_instance=True)
        setpriv = shutil.which("setpriv")  # with which it ends when the test does, however that ends
        self._process = subprocess.Popen(
            [
                *([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []),
                require("prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=error",
            ],
            stdin=subprocess.DEVNULL,
        )

    async def started(self) -> None:
        """Wait until it answers."""
        while True:
            assert self._process.poll() is None, "prometheus ended"
            try:
                await self._http.fetch(f"http://127.0.0.1:{self.port}/-/ready")
            except Exception:  # it does not listen yet, or says 503
                await asyncio.sleep(0.05)
            else:
                return

    async def ask(self, path: str, **arguments: str) -> Any:
        """Ask its HTTP API; an error, such as that of an expression that cannot be parsed, is a failure."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(arguments)}"
        response = await self._http.fetch(url, raise_error=False)
        answer: Mapping[str, Any] = json.loads(response.body)
        assert answer["status"] == "success", (arguments, answer)
        return answer["data"]

    async def query(self, expression: str) -> list[Any]:
        """Return the samples that ``expression`` has now."""
        result: list[Any] = (await self.ask("query", query=expression))["result"]
        return result

    async def until(self, expression: str) -> None:
        """Wait until ``expression`` has a sample."""
        while not await self.query(expression):
            await asyncio.sleep(0.05)

    def close(self) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait()
