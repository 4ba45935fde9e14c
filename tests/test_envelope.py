"""The envelope: what is written is read as it was, and what is no envelope is told by `ValueError` and nothing else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tornado_wsauth.backplane.envelope import MOST_BYTES, Envelope, Parcel, seal, unseal, wrap

texts = st.text(st.characters(), max_size=5)  # lone surrogates, too
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
messages = st.dictionaries(texts, values, max_size=4)
letters = st.lists(st.tuples(texts, messages), max_size=4)

NO_PAIRS: list[Any] = [None, [], ["red"], ["red", {}, 1], ["red", []], [1, {}], {"red": {}}, "ab"]


def examples(number: int) -> settings:
    """Return settings for that many examples, the same ones each time and however slow the machine is."""
    return settings(
        max_examples=number, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def envelope(**changes: Any) -> str:
    """Return an envelope that is good but for ``changes``."""
    good = {"v": 1, "from": "ann", "seq": 17, "messages": [["red", {"n": 1}]]}
    return json.dumps({**good, **changes})


def nested(depth: int) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for _ in range(depth):
        message = {"a": message}
    return message


@examples(60)
@given(letters, st.integers(0, 2**63))
def test_what_was_sealed_is_unsealed_as_it_was(sent: list[tuple[str, dict[str, Any]]], seq: int) -> None:
    text = seal("3f0c", seq, [wrap(*letter) for letter in sent])
    for form in (text, text.encode("ascii")):
        assert unseal(form) == Envelope("3f0c", seq, sent)
        assert repr(unseal(form).messages) == repr(sent), "1 and 1.0 and True differ"


@examples(150)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_of_any_text_unseal_makes_an_envelope_or_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(text)


@examples(100)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "v": st.just(1) | values,
            "from": st.just("ann") | values,
            "seq": st.just(17) | values,
            "messages": st.lists(st.tuples(texts, messages) | values, max_size=3) | values,
        },
    )
)
def test_of_any_json_unseal_makes_a_well_typed_envelope_or_a_value_error(found: dict[str, Any]) -> None:
    try:
        sender, seq, letters = unseal(json.dumps(found))
    except ValueError:
        return
    assert isinstance(sender, str)
    assert isinstance(seq, int)
    assert all(isinstance(channel, str) and isinstance(message, dict) for channel, message in letters)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "1", '"v"', "{", envelope() + "x", envelope()[:-1], "\ufeff" + envelope()),
        *(envelope(v=2), envelope(v="1"), envelope(v=None), envelope(seq=1.5), envelope(seq="17"), envelope(seq=None)),
        *(envelope(**{"from": None}), envelope(**{"from": 1}), envelope(messages=None), envelope(messages={})),
        *(envelope(messages=[pair]) for pair in NO_PAIRS),
        envelope(messages=[["red", {}], ["red", None]]),
    ],
)
def test_what_is_no_envelope_is_a_value_error(text: str) -> None:
    # A37
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(text)


def test_one_of_a_later_version_that_says_more_is_read_as_long_as_the_version_is_ours() -> None:
    assert unseal(envelope(more="than we know")) == Envelope("ann", 17, [("red", {"n": 1})])


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_python_alone_takes_for_json_is_a_value_error(word: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(envelope().replace('{"n": 1}', f'{{"n": {word}}}'))


@pytest.mark.parametrize("text", [b"\xff", b"\x80abc", b"\x00\x00\x00", b"{\x00", b"\xff\xfe{", b"\xef\xbb\xbf"])
def test_bytes_that_are_no_text_are_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(text)


def test_a_pickle_is_a_value_error_and_does_nothing() -> None:
    # A37
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(pickle.dumps(Bomb()))
    assert Bomb.exploded == 0


class Bomb:
    exploded = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (explode, ())


def explode() -> None:
    Bomb.exploded += 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, envelope()[:-4] + ', "a":' + "[" * 50_000])
def test_what_is_nested_without_end_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(text)


def test_a_number_of_a_million_digits_is_a_value_error() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        unseal(envelope().replace("17", "1" * 1_000_000))


@pytest.mark.parametrize(
    "message",
    [{"a": object()}, {"a": {1}}, {"a": b""}, {(1, 2): 1}, {"a": float("nan")}, {"a": [float("-inf")]}, {"a": 1j}],
    ids=str,
)
def test_what_is_not_json_is_not_wrapped(message: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        wrap("red", message)


@pytest.mark.parametrize("message", [[1], "text", None, 5, True], ids=str)
def test_json_that_is_no_object_is_not_wrapped(message: Any) -> None:
    """It would cost the receivers all the others in its envelope."""
    with pytest.raises((TypeError, ValueError)):
        wrap("red", message)


def test_what_holds_itself_or_is_nested_without_end_is_not_wrapped() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = [endless]
    for message in (endless, nested(100_000)):
        with pytest.raises((TypeError, ValueError)):
            wrap("red", message)


def test_what_is_wrapped_in_a_shallow_place_can_be_unsealed_in_a_deep_one() -> None:
    """Otherwise a message that one process could write costs another all those in its envelope."""
    depths = range(50, 1000, 10)
    sealed = []
    for depth in depths:
        try:
            sealed.append(seal("ann", 1, [wrap("red", nested(depth))]))
        except ValueError:
            break

    def unseal_all(below: int) -> int:
        return unseal_all(below - 1) if below else len([unseal(text) for text in sealed])

    assert unseal_all(below=150) == len(sealed)


def test_the_longest_message_is_wrapped_and_one_byte_more_is_not() -> None:
    most = MOST_BYTES - len('{"a":""}')
    assert len(wrap("red", {"a": "x" * most}).text) == MOST_BYTES
    with pytest.raises(ValueError, match=f"{MOST_BYTES + 1} bytes.*at most {MOST_BYTES}"):
        wrap("red", {"a": "x" * (most + 1)})
    with pytest.raises(ValueError, match="too long"):
        wrap("red", {"a": "é" * (most // 2)})  # six bytes each, in ASCII


def test_an_envelope_is_ascii_whatever_is_in_it() -> None:
    parcel = wrap('"\\\n\ud800é', {"é\ud800": "\u2028🎈"})
    assert seal("ann", 1, [parcel, Parcel("x", "{}")]).isascii()
