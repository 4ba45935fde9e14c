"""Compares (A40) what Autobahn's fuzzing client says of a bare Tornado handler and of the same one with our mixin.

``python -m tests.autobahn`` runs it; nobody imports it. It ends with 1 if any case came out differently, and with 2 if
there was nothing to compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.autobahn.python27 import NotInstalled, install
from tests.autobahn.servers import Authenticated, Bare, Subject

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
COMPRESSION = ["12.*", "13.*"]
CACHE = Path(__file__).parents[2] / ".tox" / "autobahn"
ATTEMPTS = 2  # at cases that came out differently
MOST_UNLUCKY = 5  # such cases; more are no bad luck
QUIET_AFTER = 300  # seconds without a new case after which the fuzzing client counts as stuck

Results = dict[str, dict[str, object]]
"""What the fuzzing client wrote of one server, by case."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"cases such as 9.1.* instead of {' '.join(CASES)}")
    parser.add_argument(
        "--compression", action="store_true", help="compress, and run sections 12 and 13, which take long"
    )
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("TOX_ENV_DIR", CACHE)))
    return parser.parse_args(arguments)


def main() -> int:
    arguments = parse_arguments()
    cases = arguments.cases or CASES + COMPRESSION * arguments.compression
    # Tornado logs each protocol error that the fuzzing client makes. What matters of it is in the report.
    logging.getLogger("tornado").setLevel(logging.CRITICAL)
    logging.getLogger("tornado_wsauth").setLevel(logging.CRITICAL)
    try:
        wstest = install(arguments.cache)
    except NotInstalled as missing:
        print(missing, file=sys.stderr)
        return 2
    reports, compression = arguments.cache / "reports", arguments.compression
    bare, ours, errors = asyncio.run(run_both(wstest, reports, cases, compression))
    for attempt in range(ATTEMPTS):
        # Where a server cuts the connection, it is luck whether what it sent before still arrives, with and without us.
        unlike = different(bare, ours)
        if not unlike or len(unlike) > MOST_UNLUCKY:
            break
        print(f"came out differently, and run again: {', '.join(unlike)}")
        again = asyncio.run(run_both(wstest, reports / f"again-{attempt + 1}", unlike, compression))
        bare, ours, errors = {**bare, **again[0]}, {**ours, **again[1]}, errors + again[2]
    return compare(bare, ours, errors)


async def run_both(
    wstest: Path, reports: Path, cases: Sequence[str], compression: bool
) -> tuple[Results, Results, list[str]]:
    """Return the results of both servers, and what went wrong on the way to them."""
    async with (
        Subject("bare", Bare, compression=compression) as bare,
        Subject("ours", Authenticated, compression=compression) as ours,
    ):
        fuzzing = [asyncio.create_task(fuzz(wstest, reports / one.name, one, cases)) for one in (bare, ours)]
        await asyncio.wait(fuzzing)
        errors = [f"{one.name}: {error}" for one in (bare, ours) for error in one.errors]
        errors += [f"{type(error).__name__}: {error}" for error in (task.exception() for task in fuzzing) if error]
        results = [{} if task.exception() else task.result() for task in fuzzing]
        if ours.logins < len(results[1]):
            errors.append(f"ours: {ours.logins} logins for {len(results[1])} cases")
        return results[0], results[1], errors


async def fuzz(wstest: Path, report: Path, subject: Subject, cases: Sequence[str]) -> Results:
    """Run the fuzzing client against one server and return what it wrote. Raises `RuntimeError` if it fails."""
    spec = {
        "outdir": str(report),
        "servers": [{"agent": subject.name, "url": subject.url}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    prepare(report, spec)
    process = await asyncio.create_subprocess_exec(
        *(wstest, "-m", "fuzzingclient", "-s", report / "spec.json"),
        cwd=report,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), QUIET_AFTER):
            said.append(line.decode(errors="replace").rstrip())
            if said[-1].startswith("Running test case"):
                print(f"{subject.name}: {said[-1]}", file=sys.stderr, flush=True)
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return read_results(report)[subject.name]
    except (OSError, ValueError, KeyError) as error:
        lines = [*said[-20:], f"wstest ended with {status} and left no report on {subject.name}"]
        raise RuntimeError("\n".join(lines)) from error


def prepare(report: Path, spec: dict[str, object]) -> None:
    shutil.rmtree(report, ignore_errors=True)  # or results of another run would count as this one's
    report.mkdir(parents=True)
    (report / "spec.json").write_text(json.dumps(spec))


def read_results(report: Path) -> dict[str, Results]:
    results: dict[str, Results] = json.loads((report / "index.json").read_text())
    return results


def compare(bare: Results, ours: Results, errors: Sequence[str]) -> int:
    """Print how the cases came out for both, and each that differs; return the exit status."""
    counts = [Counter(verdict(one) for one in results.values()) for results in (bare, ours)]
    print(f"{'behavior / at the close':<32}{'bare':>8}{'ours':>8}")
    for name in sorted(set().union(*counts)):
        print(f"{name:<32}{counts[0][name]:>8}{counts[1][name]:>8}")
    print(f"{'cases':<32}{len(bare):>8}{len(ours):>8}")
    unlike = different(bare, ours)
    for case in unlike:
        print(f"case {case}: bare {verdict(bare.get(case))}, ours {verdict(ours.get(case))}")
    for error in errors:
        print(error)
    if not bare:
        print("no case was run")
        return 2
    print(f"{len(unlike)} of {len(bare)} cases came out differently")
    return 1 if unlike or errors else 0


def different(bare: Results, ours: Results) -> list[str]:
    """Return the cases that did not come out alike, in their order."""
    cases = sorted(bare.keys() | ours.keys(), key=by_number)
    return [case for case in cases if verdict(bare.get(case)) != verdict(ours.get(case))]


def verdict(result: dict[str, object] | None) -> str:
    """Return what is compared of a case: how the server behaved, and how at the close."""
    return "not run" if result is None else f"{result['behavior']} / {result['behaviorClose']}"


def by_number(case: str) -> list[int]:
    return [int(number) for number in case.split(".")]


if __name__ == "__main__":
    sys.exit(main())
