"""What the client does about a close code is what ``docs/protocol.md`` §5 says a client should do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tornado_wsauth import CloseCode
from tornado_wsauth.client.reactions import describe_close, usual_reaction

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocol.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the documentation beside them")


def table() -> list[tuple[int, str, str]]:
    """Return code, reason and advice of each line."""
    section = PAGE.read_text(encoding="utf-8").partition("## 5. Close codes")[2]
    lines = re.findall(r"^\| (\d{4}) \| (?:`(\w+)`)? ?\| .* \| ([^|]+) \|$", section, re.M)
    return [(int(code), reason, advice) for code, reason, advice in lines]


def test_the_table_has_every_code_the_server_sends():
    assert {code for code, _, _ in table()} >= set(CloseCode)


@pytest.mark.parametrize(("code", "reason", "advice"), table() if PAGE.exists() else [])
def test_it_does_what_the_table_says(code, reason, advice):
    usual = {usual_reaction(code, reason, during) for during in ("authenticating", "ready")}
    if advice.startswith("stop"):
        assert usual == {"stop"}
    elif advice.endswith("retry once"):
        assert usual == {"once"}
    elif advice == "fetch new credentials, retry":
        assert usual == {"now", "retry"}
    else:
        assert advice in ("retry with backoff", "retry with jitter")
        assert usual == {"retry"}
    assert str(code) not in describe_close(code, reason), "it is put in words"
