"""How a connection token is made, recognised and hashed, and how a user id is spelled."""

from __future__ import annotations

import hashlib
import string

import pytest

from tornado_wsauth.tokens import TokenRecord, as_user_id, hash_token, is_well_formed, new_token

ALPHABET = set(string.ascii_letters + string.digits + "-_")
TOKEN = "A" * 43


def test_a_token_is_43_characters_of_the_url_safe_alphabet():  # A2
    tokens = [new_token() for _ in range(200)]
    assert {len(token) for token in tokens} == {43}
    assert set("".join(tokens)) == ALPHABET, "200 tokens use every character of the alphabet and no other"


def test_no_two_tokens_are_alike():  # A2
    assert len({new_token() for _ in range(1000)}) == 1000


def test_a_token_comes_from_the_csprng(monkeypatch):  # A2
    asked = []
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: asked.append(size) or TOKEN)
    assert new_token() == TOKEN
    assert asked == [32]


def test_what_new_token_makes_is_well_formed():
    assert all(is_well_formed(new_token()) for _ in range(100))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "A" * 42,
        "A" * 44,
        "A" * 42 + "=",
        "A" * 42 + "+",
        "A" * 42 + "/",
        "A" * 42 + "\n",
        TOKEN + "\n",
        "\n" + "A" * 42,
        "A" * 42 + "\0",
        "A" * 42 + " ",
        "A" * 42 + "é",
        "A" * 42 + "٣",  # a digit to Unicode, none to us
        "A" * 42 + "\udcff",
        '{"$ne": null}'.ljust(43, "A"),
    ],
)
def test_what_new_token_cannot_make_is_not_well_formed(token):  # A8
    assert not is_well_formed(token)


def test_a_token_is_hashed_with_sha256():
    assert hash_token(TOKEN) == hashlib.sha256(TOKEN.encode("ascii")).hexdigest()
    assert hash_token(TOKEN) != hash_token(TOKEN[:-1] + "B")


@pytest.mark.parametrize(
    ("value", "user_id"),
    [
        ("alice", "alice"),
        (b"alice", "alice"),
        ("zoë".encode(), "zoë"),
        (7, "7"),
        (0, "0"),
        (-1, "-1"),
        (2**70, "1180591620717411303424"),
        (" alice ", " alice "),
        ("007", "007"),
        ("ALICE", "ALICE"),
        ("a\nb\0c", "a\nb\0c"),
    ],
)
def test_a_user_id_has_one_spelling_for_each_user(value, user_id):
    assert as_user_id(value) == user_id
    assert type(as_user_id(value)) is str


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        True,
        False,
        1.0,
        float("nan"),
        [],
        ["alice"],
        {},
        {"id": 1},
        ("alice",),
        object(),
        bytearray(b"a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_clearly_one_user_is_no_user_id(value):
    with pytest.raises(ValueError, match="user id"):
        as_user_id(value)


@pytest.mark.parametrize("value", [b"\xff", b"\xed\xa0\x80", "\ud800", "alice\udcff"], ids=ascii)
def test_what_is_no_text_is_no_user_id(value):  # A16
    with pytest.raises(ValueError, match="user id"):
        as_user_id(value)


def test_an_integer_too_long_to_print_is_refused_like_any_other_bad_id():  # A16
    with pytest.raises(ValueError):  # noqa: PT011
        as_user_id(10**5000)


def test_a_token_record_cannot_be_changed():
    record = TokenRecord("alice", 1.0, 2.0)
    with pytest.raises(AttributeError):
        record.user_id = "mallory"  # type: ignore[misc]
    assert record.context is None
