"""Each finding is made where it is due, and not where it is not."""

from __future__ import annotations

import secrets
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.doctor.kit import Chat, findings, make_app, make_auth, serve
from tests.doctor.pairs import PAIRS, WITH_SERVERS, OtherToken, PreparedChat, Starred
from tornado_wsauth import JWTVerifier, MemoryTokenStore, TokenHandler, WSAuth
from tornado_wsauth.doctor import keys
from tornado_wsauth.doctor.checks import examine
from tornado_wsauth.doctor.findings import IDS
from tornado_wsauth.doctor.subject import subject_of


@pytest.mark.gen_test
@pytest.mark.parametrize("pair", PAIRS, ids=str)
async def test_an_application_that_has_it_is_told_so(pair):
    found = (await findings(pair.has())).get(pair.id)
    assert found is not None
    assert found.level == pair.level
    assert all((found.where, found.problem, found.advice))


@pytest.mark.gen_test
@pytest.mark.parametrize("pair", PAIRS, ids=str)
async def test_one_that_has_it_not_is_left_in_peace(pair):
    assert pair.id not in await findings(pair.has_not())


def test_every_kind_of_finding_has_a_pair():
    assert {pair.id for pair in PAIRS} | WITH_SERVERS == set(IDS)


@pytest.mark.gen_test
async def test_a_good_application_hears_nothing_but_what_cannot_be_known():
    app = make_app()
    assert set(await findings(app)) == {"no-origin-list", "memory-store", "xheaders-unknown"}
    assert set(await findings(serve(app), processes=1)) == {"no-origin-list"}


@pytest.mark.gen_test
async def test_no_code_of_a_handler_runs_that_might_do_something():
    found = await findings(make_app(chat=PreparedChat))
    assert set(found) == set(await findings(make_app()))
    assert PreparedChat.ran == []


@pytest.mark.gen_test
async def test_a_handler_that_cannot_answer_without_a_client_is_no_finding():
    class Particular(Chat):
        def check_origin(self, origin: str) -> bool:
            return bool(self.nothing_like_it)  # type: ignore[attr-defined]

        def get_compression_options(self) -> None:
            raise RuntimeError("ask me later")

    assert not {"any-origin", "compression-with-broadcasts"} & set(await findings(make_app(chat=Particular)))


@pytest.mark.gen_test
async def test_the_worst_comes_first():
    found = [finding.level for finding in (await findings(make_app(debug=True, websocket_ping_interval=0))).values()]
    assert found == sorted(found, key=["error", "warning", "note"].index)
    assert found[0] == "error"


@pytest.mark.gen_test
async def test_what_two_policies_share_is_spoken_of_once():
    verifier, store = JWTVerifier("p" * 32, ["HS256"]), MemoryTokenStore()
    auth, other = WSAuth(verifier, store), WSAuth(verifier, store, token_ttl=5)
    app = make_app((r"/other/token", OtherToken), auth=auth, wsauth_other=other)
    found = [finding.id for finding in await examine(subject_of(app))]
    assert (found.count("weak-key"), found.count("memory-store")) == (1, 1)


@pytest.mark.gen_test
async def test_a_finding_about_many_routes_names_the_first_and_counts_the_others():
    app = make_app(*((rf"/ws/{number}", Chat) for number in range(9)), websocket_ping_interval=0)
    problem = (await findings(app))["no-ping-interval"].problem
    assert "/ws/chat (Chat), /ws/0 (Chat), /ws/1 (Chat), /ws/2 (Chat) and 6 more" in problem


@pytest.mark.gen_test
async def test_a_preflight_alone_is_asked_for_without_connect():
    asked = []

    class Listening(TokenHandler):
        def prepare(self) -> None:
            asked.append(self.request.method)

    app = make_app((r"/mine", Listening))
    await findings(app, connect=False)
    assert asked == ["OPTIONS"]
    await findings(app)
    assert asked == ["OPTIONS", "OPTIONS", "POST"]


@pytest.mark.gen_test
async def test_no_token_is_issued_however_easily_a_user_is_known():
    class Easy(TokenHandler):
        def get_current_user(self) -> str:
            return "alice"

    store = MemoryTokenStore()
    await findings(make_app((r"/mine", Easy), auth=make_auth(store)))
    assert len(store) == 0


@pytest.mark.gen_test
async def test_a_token_route_of_a_host_is_asked_under_that_host():
    app = make_app()
    app.add_handlers(r"chat\.example", [(r"/my-token", Starred)])
    assert (await findings(app))["wildcard-cors"].where == r"/my-token on chat\.example (Starred)"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("x" * 40, "is one character, again and again"),
        ("kQ7z" * 10, "is the same 4 characters, again and again"),
        ("zyxwvutsrqponmlkjihgfedcba987654", "is a sequence"),
        ("my-secret-Zr4LwXe6KfMj2NvYc9HdGu5P", "has words in it"),
        ("aabbbacabcbbaccabacbbcabacabbbca", "has too little variety"),
    ],
)
def test_what_is_weak_about_a_key_is_said_without_the_key(key, words):
    (found,) = keys.weak_key(subject_of(make_app(auth=make_auth(key=key))))
    assert words in found.problem
    assert key[:8] not in repr(found)


@pytest.mark.parametrize(
    "make", [lambda: secrets.token_urlsafe(24), lambda: secrets.token_hex(16), lambda: uuid4().hex]
)
def test_a_random_key_is_not_taken_for_a_weak_one(make):
    for _ in range(300):
        subject = subject_of(make_app(auth=make_auth(key=make())))
        assert list(keys.weak_key(subject)) == []


def test_keys_of_bytes_and_public_keys_are_looked_at_for_what_they_are():
    good = JWTVerifier(secrets.token_bytes(64), ["HS512"])
    assert list(keys.weak_key(subject_of(make_app(auth=WSAuth(good))))) == []
    public = JWTVerifier(Ed25519PrivateKey.generate().public_key(), ["EdDSA"])
    assert list(keys.weak_key(subject_of(make_app(auth=WSAuth(public))))) == []
