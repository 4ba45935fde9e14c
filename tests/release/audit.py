"""Known vulnerabilities in what the library runs on: ``tox run -e audit``, or ``python -m tests.release.audit``.

`uv` resolves setup.py's requirements, once to the oldest versions that they allow and once to the newest; ``pip-audit``
asks for each of them. What could not be asked for is a failure and no clean bill: left to itself, ``pip-audit`` skips
a package that its service does not know, and ends with 0.

The exit status is 0 if nothing is known, 1 if something is, and 3 if the service could not be asked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import metadata
from pathlib import Path

from tests.release import ROOT

CLEAN, VULNERABLE, NOT_ASKED = 0, 1, 3
FOR_WORK = frozenset({"bench", "docs", "example", "test"})
"""The extras for working on the library. The others are what users install."""
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
SERVICES = ("pypi", "osv")
_TIMEOUT = 120  # seconds


class NotAskedError(Exception):
    """A service did not answer for every package."""


@dataclass
class Finding:
    package: str
    version: str
    advisory: str
    fixed_in: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {self.advisory}, {fix}"


def extras() -> list[str]:
    """Return the extras to audit: all that the installed package has, so that a new one is not forgotten."""
    return sorted(set(metadata("tornado_wsauth").get_all("Provides-Extra") or ()) - FOR_WORK)


def resolve(resolution: str, python: str = "3.11") -> str:
    """Return the pins, one a line. ``oldest`` are the lower bounds in setup.py, with the newest of what those need."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"]
    command += ["--python-version", python, "--resolution", RESOLUTIONS[resolution]]
    for extra in extras():
        command += ["--extra", extra]
    done = subprocess.run(
        [*command, "setup.py"], capture_output=True, text=True, timeout=_TIMEOUT, cwd=ROOT, check=False
    )
    if done.returncode:
        raise NotAskedError(f"uv cannot resolve setup.py's requirements: {done.stderr.strip()}")
    return done.stdout


def ask(pins: str, service: str, url: str | None = None) -> list[Finding]:
    """Return what ``service`` knows of ``pins``. Raises `NotAskedError` unless it answered for every one of them."""
    with tempfile.TemporaryDirectory() as folder:
        requirements, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        requirements.write_text(pins, encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--disable-pip", "--require-hashes"]
        command += ["--vulnerability-service", service, *(["--osv-url", url] if url else [])]
        command += ["--requirement", str(requirements), "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        if not report.exists():
            raise NotAskedError(f"{service}: {_last_line(done.stderr)}")
        dependencies = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    return _findings(service, pins, dependencies)


def _findings(service: str, pins: str, dependencies: Sequence[dict[str, object]]) -> list[Finding]:
    answered = {str(one["name"]) for one in dependencies if "skip_reason" not in one}
    missing = {line.partition("==")[0] for line in pins.splitlines() if "==" in line} - answered
    if missing:
        raise NotAskedError(f"{service}: no answer about {', '.join(sorted(missing))}")
    return [
        Finding(str(one["name"]), str(one["version"]), str(known["id"]), list(known["fix_versions"]))
        for one in dependencies
        for known in one["vulns"]  # type: ignore[attr-defined]
    ]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "pip-audit said nothing"


def audit(resolution: str, services: Sequence[str], url: str | None = None) -> int:
    """Ask the first service that answers about all of them, and say what it knows; return the exit status."""
    silent: list[str] = []
    try:
        pins = resolve(resolution)
        findings = None
        for service in services:
            try:
                findings = ask(pins, service, url if service == "osv" else None)
                break
            except NotAskedError as reason:
                silent.append(str(reason))
    except NotAskedError as reason:
        silent.append(str(reason))
        findings = None
    if findings is None:
        print(f"NOT AUDITED, the {resolution}: " + "; ".join(silent), file=sys.stderr)
        return NOT_ASKED
    for finding in findings:
        print(f"{resolution}: {finding}", file=sys.stderr)
    if findings and resolution == "oldest":
        print("raise the lower bounds in setup.py, and in tox.ini, README.md and CHANGELOG.md", file=sys.stderr)
    count = sum(1 for line in pins.splitlines() if "==" in line)
    print(f"{resolution}: {count} packages, {len(findings)} known vulnerabilities")
    return VULNERABLE if findings else CLEAN


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.release.audit", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--service", choices=SERVICES, help="ask this one only; else OSV after PyPI, if PyPI is silent")
    parser.add_argument("--osv-url", help="ask an OSV of your own")
    parser.add_argument("resolutions", nargs="*", default=list(RESOLUTIONS), metavar="oldest|newest")
    arguments = parser.parse_args(argv)
    services = (arguments.service,) if arguments.service else SERVICES
    if unknown := set(arguments.resolutions) - set(RESOLUTIONS):
        parser.error(f"{', '.join(sorted(unknown))}: must be one of {', '.join(RESOLUTIONS)}")
    statuses = {audit(resolution, services, arguments.osv_url) for resolution in arguments.resolutions}
    return VULNERABLE if VULNERABLE in statuses else max(statuses)


if __name__ == "__main__":
    sys.exit(main())
