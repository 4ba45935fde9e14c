"""Fuzzes the parsers that strangers reach, with atheris: ``python -m tests.fuzz --seconds 60 [target …]``.

Nobody imports it; the environment ``fuzz`` of tox has atheris. Each target runs in a process of its own, because
libFuzzer ends its process with the run. An input that breaks a property is printed as a bytes literal, to be given
back with ``--input``, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAMES = ["first_message", "query_token", "logged_token", "hostile_jwt"]
MAX_LENGTH = 2048  # bytes of an input


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is fuzzed")
    parser.add_argument("--input", help="a bytes literal to try on one target, instead of fuzzing")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)  # for the process of one target
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.targets) - set(NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return chosen


def main() -> int:
    arguments = parse_arguments()
    targets = arguments.targets or NAMES
    if arguments.input is not None:
        return try_once(targets[0], ast.literal_eval(arguments.input))
    if arguments.corpus is not None:
        fuzz(targets[0], arguments.seconds, arguments.corpus)
    failed = [name for name in targets if fuzz_apart(name, arguments.seconds)]
    print(f"broken: {', '.join(failed)}" if failed else f"nothing found in {', '.join(targets)}")
    return 1 if failed else 0


def try_once(name: str, data: bytes) -> int:
    """Try one input on a target, without atheris; a property that does not hold raises."""
    from tests.fuzz.properties import TARGETS

    TARGETS[name].check(data)
    print(f"{name} holds for {data!r}")
    return 0


def fuzz_apart(name: str, seconds: int) -> int:
    """Fuzz one target in a process of its own; return its exit status."""
    print(f"== {name}, {seconds} s", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory)
        command = (sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--corpus", directory)
        status = subprocess.run(command, check=False).returncode
        # Besides exceptions, which are printed where they happen: what hung or crashed the interpreter itself.
        for found in sorted(corpus.glob("found-*")):
            print(f"{name}: {found.name} {found.read_bytes()!r}", flush=True)
            status = status or 1
        return status


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    # What steers the fuzzer is which branches are taken: in our code, and in the second reader of JSON.
    with atheris.instrument_imports(include=["tornado_wsauth", "tests.fuzz", "tornado.escape"]):
        from tests.fuzz.properties import TARGETS

    target = TARGETS[name]
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def check(data: bytes) -> None:
        try:
            target.check(data)
        except BaseException:
            print(f"{name}: {data!r}", flush=True)
            raise

    options = [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=10", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/found-", "-verbosity=1", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
