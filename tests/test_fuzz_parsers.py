"""The properties of `tests.fuzz`, on the inputs that Hypothesis makes up: small, and the same in every run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzz
from tests.fuzz import json_reader, properties
from tests.fuzz.properties import FLAGS, MAX_FIRST_MESSAGE, TARGETS


def examples(number: int) -> settings:
    """Return settings for that many examples, the same ones each time and however slow the machine is."""
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def one_of_its_seeds(name: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from(TARGETS[name].seeds)


edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)), max_size=4)


def edited(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Return ``seed`` with some bytes taken out, and others put in, at the places given."""
    for place, length, put_in in changes:
        place %= len(seed) + 1
        seed = seed[:place] + put_in + seed[place + length :]
    return seed


@pytest.mark.parametrize("name", TARGETS)
def test_a_property_holds_for_its_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_property_holds_for_its_seeds_after_any_few_edits(name: str) -> None:
    # A8, A16, A38
    @examples(50)
    @given(one_of_its_seeds(name), edits)
    def holds(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        TARGETS[name].check(edited(seed, changes))

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_a_property_holds_for_any_bytes(name: str) -> None:
    # A8, A16, A38
    @examples(25)
    @given(st.binary(max_size=200))
    def holds(data: bytes) -> None:
        TARGETS[name].check(data)

    holds()


names = st.sampled_from(["type", "token", "other", ""])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["jwt", "a.b.c", "", "é", "\ud800", "😀", '"\\\n'])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
members = st.lists(st.tuples(names, values), max_size=4)


@examples(80)
@given(members, st.sampled_from([True, False]), st.sampled_from([(",", ":"), (" , ", "\t:\n"), (",,", ":")]))
def test_the_gate_reads_an_object_as_a_second_reader_does(
    pairs: list[tuple[str, object]], ascii_only: bool, separators: tuple[str, str]
) -> None:
    # A16; written by hand, because a dict would not keep a member that is given twice
    comma, colon = separators
    written = [json.dumps(name) + colon + json.dumps(value, ensure_ascii=ascii_only) for name, value in pairs]
    typed = ['"type"' + colon + '"jwt"', *written]
    for texts in (written, typed):
        properties.first_message(("{" + comma.join(texts) + "}").encode("utf-8", "replace"))


def test_a_first_message_may_be_as_long_as_the_limit_and_no_longer() -> None:
    # A17
    room = MAX_FIRST_MESSAGE - len('{"type":"jwt","token":""}')
    for length in (room, room + 1):
        properties.first_message(b'{"type":"jwt","token":"%s"}' % (b"a" * length))


queries = st.lists(
    st.sampled_from(["token", "%74oken", "tok%65n", "Token", "a", "=", "&", ";", "?", "%", "%f", "%ff", "+", "é", "A"]),
    max_size=12,
).map(lambda parts: "".join(parts).encode("latin1"))


@examples(50)
@given(st.binary(min_size=FLAGS, max_size=FLAGS), queries, queries)
def test_a_token_leaves_a_query_and_a_log_line_whatever_stands_around_it(
    flags: bytes, before: bytes, after: bytes
) -> None:
    # A8, A38
    for check in (properties.query_token, properties.logged_token):
        check(flags + before + b"\n" + after)
        check(before)


json_values = st.none() | st.booleans() | st.integers(-1, 1) | st.floats() | st.sampled_from(["HS256", "JWT", "x", ""])
headers = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "jwk"]), json_values, max_size=3)
claims = st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti"]), json_values, max_size=3)


@examples(70)
@given(headers, claims)
def test_of_rightly_signed_nonsense_only_what_is_complete_is_accepted(
    header: dict[str, object], payload: dict[str, object]
) -> None:
    # A16, A20
    full_header = json.dumps({"alg": "HS256", **header}).encode()
    full_payload = json.dumps({"sub": "alice", "exp": properties.NOW + 60, **payload}).encode()
    properties.hostile_jwt(b"\1" + full_header + b"\0" + full_payload)


# Whether the second reader is one


@examples(40)
@given(values)
def test_the_second_reader_reads_what_python_writes(value: object) -> None:
    def without_numbers(value: object) -> object:
        if isinstance(value, dict):
            return {name: without_numbers(item) for name, item in value.items()}
        if isinstance(value, list):
            return [without_numbers(item) for item in value]
        return 0.0 if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    assert json_reader.read(json.dumps(value)) == without_numbers(value)
    assert json_reader.read(json.dumps(value, ensure_ascii=False, indent=1)) == without_numbers(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1,]", '{"a":1,}', '{"a":1 "b":2}', '{"a":1,"a":2}', "[1 2]", "1 2", "{1:2}", "nul", "'a'"),
        *("01", "1.", ".5", "+1", '"\n"', '"\\x41"', '"\\u00g0"', "\u00a01", "１", "1" * 5000),
    ],
)
def test_the_second_reader_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(json_reader.NotJSON):
        json_reader.read(text)


def test_what_the_ordinary_tests_import_of_the_fuzzing_needs_no_atheris() -> None:
    folder = Path(fuzz.__file__).parent
    for module in ("properties.py", "json_reader.py", "__init__.py"):
        assert "import atheris" not in (folder / module).read_text()
    assert "import atheris" in (folder / "__main__.py").read_text(), "the search finds what is there"
