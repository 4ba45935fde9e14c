"""Fail unless the matrix ran on three Pythons or more and nothing in it was skipped.

tox leaves a JUnit file in each environment that ran tests; this reads them.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PYTHONS = 3


def main() -> int:
    problems: list[str] = []
    pythons: set[str] = set()
    passed = 0
    for report in sorted(Path(".tox").glob("*/junit.xml")):
        environment = report.parent.name
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            count = {name: int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors")}
            bad = count["skipped"] + count["failures"] + count["errors"]
            if not count["tests"] or bad:
                problems.append(f"{environment}: {count}")
            passed += count["tests"] - bad
            if environment.startswith("py"):
                pythons.add(environment.partition("-")[0])
    if len(pythons) < PYTHONS:
        problems.append(f"the matrix ran on {sorted(pythons)}; {PYTHONS} Pythons are wanted")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"matrix: {', '.join(sorted(pythons))}")
    print(f"{passed} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
