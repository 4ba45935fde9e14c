"""`Credentials` and `manual_clock`: what they put in place of an application's own, and that they take it out again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import SECRET, make_auth, make_jwt
from tornado_wsauth import AuthError, JWTVerifier, TokenRejected, TokenStore, WSAuth
from tornado_wsauth.testing import Credentials, ManualClock, manual_clock

pytestmark = pytest.mark.gen_test

PUBLIC_KEY = {  # the example of RFC 8037 §A.2: the tests do not have the private one
    "kty": "OKP",
    "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


async def reason(auth: WSAuth, jwt: str) -> str:
    """Return why ``auth`` refuses ``jwt``."""
    with pytest.raises(AuthError) as caught:
        await auth.verify_jwt(jwt)
    return caught.value.reason


async def test_a_jwt_of_the_credentials_is_accepted_where_only_a_public_key_is_known() -> None:
    auth = WSAuth(JWTVerifier(PUBLIC_KEY, algorithms=["EdDSA"]))
    credentials = Credentials(auth)
    user, claims = await auth.verify_jwt(credentials.jwt("bob", role="admin"))
    assert (user, claims["role"]) == ("bob", "admin")


async def test_a_jwt_signed_with_the_applications_key_is_refused_meanwhile() -> None:
    auth = make_auth()
    with Credentials(auth):
        assert await reason(auth, make_jwt()) == "jwt_invalid"
    await auth.verify_jwt(make_jwt())


async def test_two_credentials_do_not_accept_each_others_jwts() -> None:
    auth = make_auth()
    first = Credentials(auth)
    Credentials(auth)
    assert await reason(auth, first.jwt()) == "jwt_invalid"


async def test_restoring_gives_back_the_very_verifier() -> None:
    auth = make_auth()
    original = auth.jwt
    with Credentials(auth) as credentials:
        assert auth.jwt is not original
    assert auth.jwt is original
    assert await reason(auth, credentials.jwt()) == "jwt_invalid"


async def test_restoring_twice_does_not_undo_what_came_after_it() -> None:
    auth = make_auth()
    credentials = Credentials(auth)
    credentials.restore()
    auth.jwt = later = JWTVerifier(SECRET, algorithms=["HS256"])
    credentials.restore()
    assert auth.jwt is later


async def test_audience_issuer_user_claim_and_leeway_stay_the_applications() -> None:
    verifier = JWTVerifier(
        SECRET,
        algorithms=["HS256"],
        audience=["chat", "admin"],
        issuer="https://idp.example",
        user_claim="uid",
        leeway=30,
    )
    auth = WSAuth(verifier)
    credentials = Credentials(auth)
    user, claims = await auth.verify_jwt(credentials.jwt("bob"))
    assert user == claims["uid"] == "bob"
    assert claims["iss"] == "https://idp.example"
    assert claims["aud"] in ("chat", "admin")
    for wrong in ({"aud": "other"}, {"aud": None}, {"iss": "https://other.example"}, {"iss": None}, {"uid": None}):
        assert await reason(auth, credentials.jwt("bob", **wrong)) == "jwt_invalid", wrong
    await auth.verify_jwt(credentials.jwt("bob", expires_in=-20))
    assert await reason(auth, credentials.jwt("bob", expires_in=-31)) == "jwt_expired"


async def test_what_a_subclass_of_the_verifier_adds_is_still_added() -> None:
    class WithRoles(JWTVerifier):
        async def verify(self, token: str) -> dict[str, Any]:
            return {**await super().verify(token), "role": "reader"}

    auth = WSAuth(WithRoles(PUBLIC_KEY, algorithms=["EdDSA"]))
    _, claims = await auth.verify_jwt(Credentials(auth).jwt())
    assert claims["role"] == "reader"


async def test_an_exp_of_ones_own_wins_and_none_leaves_it_out() -> None:
    auth = make_auth()
    credentials = Credentials(auth)
    assert await reason(auth, credentials.jwt(exp=1)) == "jwt_expired"
    assert await reason(auth, credentials.jwt(exp=None)) == "jwt_invalid"


async def test_a_token_of_the_credentials_is_the_users() -> None:
    auth = make_auth()
    token = await Credentials(auth).token("bob")
    assert (await auth.redeem_token(token)).user_id == "bob"


async def test_a_jwt_expires_when_the_clock_of_the_application_is_turned() -> None:
    """The application was given a clock, and its verifier none."""
    clock = ManualClock()
    auth = make_auth(clock=clock)
    credentials = Credentials(auth)
    jwt = credentials.jwt(expires_in=600)
    clock.advance(590)
    await auth.verify_jwt(jwt)
    clock.advance(10)
    assert await reason(auth, jwt) == "jwt_expired"
    await auth.verify_jwt(credentials.jwt(expires_in=600))


async def test_a_clock_that_the_application_is_given_later_counts_too() -> None:
    auth = make_auth()
    credentials = Credentials(auth)
    jwt = credentials.jwt(expires_in=600)
    auth.clock = clock = ManualClock()
    clock.advance(601)
    assert await reason(auth, jwt) == "jwt_expired"


async def test_a_clock_of_the_verifiers_own_stays() -> None:
    auth = WSAuth(JWTVerifier(SECRET, algorithms=["HS256"], clock=lambda: 1000.0))
    credentials = Credentials(auth)
    _, claims = await auth.verify_jwt(credentials.jwt(expires_in=60))
    assert claims["exp"] == 1060


@pytest.mark.parametrize("order", ["clock first", "credentials first"])
async def test_a_manual_clock_turns_jwts_and_tokens_whichever_comes_first(order: str) -> None:
    auth = make_auth()
    credentials = Credentials(auth) if order == "credentials first" else None
    with manual_clock(auth) as clock:
        credentials = credentials or Credentials(auth)
        jwt, token = credentials.jwt(expires_in=60), await credentials.token()
        clock.advance(61)
        assert await reason(auth, jwt) == "jwt_expired"
        with pytest.raises(TokenRejected) as caught:
            await auth.redeem_token(token)
        assert caught.value.reason == "expired"


async def test_the_applications_own_jwts_go_by_a_manual_clock_too() -> None:
    auth = make_auth()
    with manual_clock(auth) as clock:
        clock.advance(700)
        assert await reason(auth, make_jwt(expires_in=600)) == "jwt_expired"
    await auth.verify_jwt(make_jwt(expires_in=600))


async def test_the_clocks_are_the_old_ones_afterwards_also_when_the_test_fails() -> None:
    auth = make_auth()
    before = (auth.clock, auth.jwt.clock, await auth.issue_token("alice"))

    def failing_test() -> None:
        with manual_clock(auth) as clock:
            clock.advance(10_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()
    assert (auth.clock, auth.jwt.clock) == before[:2]
    await auth.redeem_token(before[2])


async def test_a_store_with_a_clock_of_its_servers_is_left_alone() -> None:
    class ServersTime(TokenStore):
        async def issue(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

        async def redeem(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

        async def revoke_user(self, user_id: str) -> int:
            raise NotImplementedError

    auth = WSAuth(JWTVerifier(SECRET, algorithms=["HS256"]), store := ServersTime())
    with manual_clock(auth) as clock:
        assert auth.clock is clock
        assert vars(store) == {}
