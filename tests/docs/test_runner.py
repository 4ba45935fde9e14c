"""What follows the pages finds what is wrong with them, and says on which line of which page."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.docs.blocks import PageError
from tests.docs.runner import follow


class Desk:
    """Where a test writes a page and follows it."""

    def __init__(self, folder: Path) -> None:
        self.page = folder / "page.md"
        self.directory = folder / "empty"
        self.directory.mkdir()

    def follow(self, text: str) -> int:
        self.page.write_text(text, encoding="utf-8")
        return follow(self.page, self.directory, redis=lambda: "redis://127.0.0.1:9", mongodb=lambda: "mongodb://there")

    def fails(self, text: str, line: int, what: str) -> None:
        """Follow a page that is wrong: the error has to begin with page and line."""
        with pytest.raises(PageError) as caught:
            self.follow(text)
        assert str(caught.value).startswith(f"{self.page}:{line}: ")
        assert what in str(caught.value)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_python_block_that_raises_is_reported_with_the_line_it_raises_on(desk: Desk) -> None:
    desk.fails("# Page\n\n```python\none = 1\n\none / 0\n```\n", 6, "ZeroDivisionError")


def test_a_python_block_that_is_no_python_is_reported_with_its_line(desk: Desk) -> None:
    desk.fails("```python\none = 1\ntwo = = 2\n```\n", 3, "SyntaxError")


def test_a_file_that_is_no_python_is_reported_with_its_line(desk: Desk) -> None:
    desk.fails("```python\n# app.py\none = = 1\n```\n", 3, "app.py")


def test_a_shell_block_that_fails_is_reported_with_what_it_said(desk: Desk) -> None:
    desk.fails("text\n\n```sh\necho oh no\nfalse\necho not reached\n```\n", 4, "oh no")


def test_a_shell_block_fails_with_its_first_command_that_does(desk: Desk) -> None:
    desk.fails("```sh\nfalse\ntrue\n```\n", 2, "status 1")


def test_output_that_is_not_as_printed_is_reported(desk: Desk) -> None:
    desk.fails('```python\nprint("a b")\n```\n\n<!-- prints -->\n```text\na c\n```\n', 7, "a b")


def test_output_for_which_nothing_ran_is_reported(desk: Desk) -> None:
    desk.fails("<!-- prints -->\n```text\na\n```\n", 3, "prints")


def test_a_comment_that_belongs_to_no_block_is_reported(desk: Desk) -> None:
    desk.fails("<!-- prints -->\n\nSome text.\n\n```text\na\n```\n", 1, "no block")


def test_a_language_that_nothing_reads_is_reported(desk: Desk) -> None:
    desk.fails("```cobol\nSTOP RUN.\n```\n", 2, "cobol")


def test_a_block_made_by_indentation_is_reported(desk: Desk) -> None:
    desk.fails("Text:\n\n    one = 1\n", 3, "without a language")


def test_a_file_that_nothing_uses_is_imported(desk: Desk) -> None:
    desk.fails("```python\n# app.py\nimport nothing_of_this_name\n```\n", 2, "nothing_of_this_name")


def test_a_server_that_ends_is_reported(desk: Desk) -> None:
    desk.fails("<!-- serves: http://localhost:8888/ -->\n```sh\necho no; exit 3\n```\n", 3, "status 3")


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("pip install", "of what?"),
        ("pip install 'tornado_wsauth[mango]'", "mango"),
        (".venv/bin/pip install 'not a name'", "not a name"),
        ("true && pip install 'tornado_wsauth[mango]'", "mango"),
        ("sudo apt-get install 'redis server'", "redis server"),
        ("git clone nowhere", "nowhere"),
    ],
)
def test_a_command_that_installs_and_cannot_be_right_is_reported(desk: Desk, command: str, what: str) -> None:
    desk.fails(f"```sh\ntrue\n{command}\n```\n", 3, what)


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("tox run -e nothing", "nothing"),
        ("python -m pytest tests/test_nothing.py", "tests/test_nothing.py"),
        ("python -m benchmarks.nothing", "benchmarks.nothing"),
        ("python -m example_app --nothing", "--nothing"),
        ("cd example_app/frontend && npm run nothing", "nothing"),
        ("prometheus --config.file=example_app/nothing.yml", "example_app/nothing.yml"),
        ("rm -rf /", "rm"),
    ],
)
def test_a_command_for_a_checkout_has_to_name_what_is_there(desk: Desk, command: str, what: str) -> None:
    desk.fails(f"<!-- checkout -->\n```sh\n{command}\n```\n", 3, what)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("json", '{"a": }'),
        ("yaml", "a: [1"),
        ("toml", "a = "),
        ("ini", "no section = 1\n[a"),
        ("js", "const = 1;"),
        ("jsx", "const a = <p>text;"),
        ("html", "<form><p></form>"),
        ("html", "<script>const = 1;</script>"),
        ("http", "WHAT IS THIS"),
        ("nginx", "proxy_pas http://127.0.0.1:1;"),
        ("promql", "rate(foo[5m)"),
        ("redis", "SETT a b"),
    ],
)
def test_a_block_that_its_language_does_not_allow_is_reported(desk: Desk, language: str, code: str) -> None:
    desk.fails(f"```{language}\n{code}\n```\n", 2, f"{language}: ")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("json", '{"a": [1, null]}'),
        ("yaml", "a: [1]\n---\n- b"),
        ("ini", "[Service]\nExecStart=/bin/true %i"),
        ("js", 'import { a } from "b";\nawait a();'),
        ("jsx", "const a = <p onClick={() => b()}>text</p>;"),
        ("html", "<!doctype html>\n<p>one<br>\n<script>const one = 1;</script>"),
        ("http", "POST /ws/token HTTP/1.1\nHost: a"),
        ("nginx", "location /ws/ { proxy_pass http://127.0.0.1:1; }"),
        ("nginx", "server { listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key; }"),
        ("promql", "# Refusals\nsum by (reason) (rate(refused_total[5m])) > 1"),
        ("redis", "SET a b"),
    ],
)
def test_a_block_that_its_language_allows_passes(desk: Desk, language: str, code: str) -> None:
    assert desk.follow(f"```{language}\n{code}\n```\n") == 1


def test_blocks_share_a_namespace_in_which_tasks_go_on_between_them(desk: Desk) -> None:
    assert desk.follow(
        "<!-- setup: python\nimport asyncio\n-->\n"
        "```python\ndone = asyncio.Event()\nasync def set_it():\n    done.set()\n"
        "task = asyncio.create_task(set_it())\n```\n\n"
        '```python\nawait done.wait()\nprint("set")\n```\n\n<!-- prints -->\n```text\nset\n```\n'
    )


def test_a_later_block_replaces_a_file(desk: Desk) -> None:
    desk.follow(
        '```python\n# app.py\nprint("one")\n```\n```python\n# app.py\nprint("two")\n```\n'
        "```sh\n.venv/bin/python app.py\n```\n\n<!-- prints -->\n```text\ntwo\n```\n"
    )


def test_what_is_installed_is_left_out_and_the_rest_of_the_line_runs(desk: Desk) -> None:
    desk.follow("```sh\npython3 -m venv .venv && .venv/bin/pip install -q 'tornado_wsauth[redis]' && echo ran\n```\n"
                "<!-- prints -->\n```text\nran\n```\n")  # fmt: skip


SERVED = """
```python
# server.py
import http.server

http.server.HTTPServer(("127.0.0.1", 8888), http.server.SimpleHTTPRequestHandler).serve_forever()
```

<!-- serves: http://localhost:8888/ -->
```sh
echo {word} > word.txt
.venv/bin/python server.py
```

```sh
curl -s http://localhost:8888/word.txt
echo http://localhost:8888/
```

<!-- prints -->
```text
{word}
http://localhost:…888/
```
"""


def test_a_server_answers_while_the_page_is_followed_and_at_a_port_of_its_own(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 8888))
        desk.follow(SERVED.format(word="first"))


def test_what_serves_an_address_ends_when_something_else_does(desk: Desk) -> None:
    desk.follow(SERVED.format(word="first") + SERVED.format(word="second"))


def test_a_databases_usual_address_is_that_of_the_tests_server(desk: Desk) -> None:
    desk.follow(
        '```python\nprint("redis://localhost/1", "redis://localhost:6379", "redis://localhost.example")\n'
        'print("mongodb://localhost:27017/?x=1", "mongodb://localhost")\n```\n\n<!-- prints -->\n'
        "```text\nredis://127.0.0.1:9/1 redis://127.0.0.1:9 redis://localhost.example\nmongodb://there mongodb://there\n```\n"
    )
