"""What every token store must do: the promises of ``stores/base.py`` as tests.

A store's own test module subclasses `TokenStoreContract` and gives it a fixture ``harness``.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable
from typing import Any, Protocol

import pytest

from tornado_wsauth.errors import TokenLimitReached, TokenRejected
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord


class StoreHarness(Protocol):
    """A fresh, empty store, and what only a test may do to it."""

    store: TokenStore

    async def pass_time(self, seconds: float) -> None:
        """Bring every token in the store ``seconds`` nearer to its expiry. Nothing is swept by it."""

    async def dump(self) -> str:
        """Return everything that is stored, as text."""


async def rejection(redeeming: Awaitable[TokenRecord]) -> tuple[str, str | None]:
    """Return reason and user of the `TokenRejected` that ``redeeming`` must raise."""
    with pytest.raises(TokenRejected) as caught:
        await redeeming
    return caught.value.reason, caught.value.user_id


async def spent_by(redeeming: Awaitable[TokenRecord]) -> str | None:
    """Return who, according to the "replayed" that ``redeeming`` must raise, has spent the token."""
    with pytest.raises(TokenRejected) as caught:
        await redeeming
    assert caught.value.reason == "replayed"
    return caught.value.spent_by


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """Run calls at the same time and return their results and exceptions."""
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.gen_test
class TokenStoreContract:
    """Inherit it as ``class TestMyStore(TokenStoreContract)``."""

    remembers_expired = True
    """Whether an expired token is known to the store until it is swept. Redis sweeps at the expiry itself."""

    async def test_token_is_43_url_safe_characters_and_never_the_same(self, harness: StoreHarness) -> None:
        # A2
        tokens = {await harness.store.issue("ann", 30) for _ in range(50)}
        assert len(tokens) == 50
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)

    async def test_dump_of_the_store_has_the_hash_and_not_the_token(self, harness: StoreHarness) -> None:
        # A2
        spent, unspent = [await harness.store.issue("ann", 30, context={"a": 1}) for _ in range(2)]
        await harness.store.redeem(spent)
        dump = await harness.dump()
        for token in (spent, unspent):
            assert token not in dump
            assert hashlib.sha256(token.encode()).hexdigest() in dump

    async def test_redeem_returns_who_the_token_was_issued_to_and_how_long_it_lives(
        self, harness: StoreHarness
    ) -> None:
        """User ids come back as they went in, whatever they mean to a database."""
        for user_id in ("ann", "7", "$admin", "$$NOW", "a.b", '{"$ne": null}', "zoë\n\x00", "x" * 2000):
            record = await harness.store.redeem(await harness.store.issue(user_id, 12.5))
            assert record.user_id == user_id
            assert record.expires_at - record.created_at == pytest.approx(12.5, abs=0.002)
            assert record.context is None

    async def test_token_is_good_for_one_redeem(self, harness: StoreHarness) -> None:
        # A5
        token = await harness.store.issue("ann", 30)
        await harness.store.redeem(token)
        assert await rejection(harness.store.redeem(token)) == ("replayed", "ann")
        assert await rejection(harness.store.redeem(token, consume=False)) == ("replayed", "ann")

    async def test_a_replayed_token_says_who_spent_it_until_its_expiry(self, harness: StoreHarness) -> None:
        """Whoever comes later changes nothing of it, and nobody is made up where no spender was given."""
        # A7
        store = harness.store
        spent, unnamed = [await store.issue("ann", 30) for _ in range(2)]
        await store.redeem(spent, spender="10.0.0.1")
        await store.redeem(unnamed)
        await harness.pass_time(25)
        for consume in (True, False, True):
            assert await spent_by(store.redeem(spent, consume=consume, spender="10.0.0.2")) == "10.0.0.1"
            assert await spent_by(store.redeem(unnamed, consume=consume, spender="10.0.0.2")) is None
        assert await store.revoke_user("ann") == 0
        assert await spent_by(store.redeem(spent)) == "10.0.0.1"

    async def test_who_looks_at_a_token_without_spending_it_is_not_its_spender(self, harness: StoreHarness) -> None:
        token = await harness.store.issue("ann", 30)
        await harness.store.redeem(token, consume=False, spender="10.0.0.9")
        await harness.store.redeem(token, spender="2001:db8::1")
        assert await spent_by(harness.store.redeem(token, spender="10.0.0.9")) == "2001:db8::1"

    async def test_every_loser_of_a_race_learns_who_won(self, harness: StoreHarness) -> None:
        # A5
        token = await harness.store.issue("ann", 30)
        results = await outcomes(*(harness.store.redeem(token, spender=f"10.0.0.{n}") for n in range(20)))
        (winner,) = [n for n, result in enumerate(results) if isinstance(result, TokenRecord)]
        losers = [result.spent_by for result in results if isinstance(result, TokenRejected)]
        assert losers == [f"10.0.0.{winner}"] * 19

    async def test_of_200_racing_redeems_exactly_one_wins(self, harness: StoreHarness) -> None:
        # A5
        token = await harness.store.issue("ann", 30)
        results = await outcomes(*(harness.store.redeem(token) for _ in range(200)))
        assert len([result for result in results if isinstance(result, TokenRecord)]) == 1
        assert [result.reason for result in results if isinstance(result, TokenRejected)] == ["replayed"] * 199

    async def test_redeem_without_consume_leaves_the_token_unspent(self, harness: StoreHarness) -> None:
        token = await harness.store.issue("ann", 30, context={"a": 1})
        first, second = [await harness.store.redeem(token, consume=False) for _ in range(2)]
        assert first == second == await harness.store.redeem(token)
        assert await rejection(harness.store.redeem(token)) == ("replayed", "ann")

    async def test_token_never_issued_is_unknown(self, harness: StoreHarness) -> None:
        await harness.store.issue("ann", 30)
        assert await rejection(harness.store.redeem("A" * 43)) == ("unknown", None)
        assert await rejection(harness.store.redeem("A" * 43, consume=False)) == ("unknown", None)

    async def test_token_is_good_until_its_ttl_is_over_and_not_after(self, harness: StoreHarness) -> None:
        # A6
        spent, first, second = [await harness.store.issue("ann", 30) for _ in range(3)]
        await harness.store.redeem(spent)
        await harness.pass_time(25)
        await harness.store.redeem(first)
        await harness.pass_time(5)
        expired = ("expired", "ann") if self.remembers_expired else ("unknown", None)
        assert await rejection(harness.store.redeem(second, consume=False)) == expired
        assert await rejection(harness.store.redeem(second)) == expired
        assert await rejection(harness.store.redeem(spent)) == expired

    async def test_context_comes_back_as_it_was_when_the_token_was_issued(self, harness: StoreHarness) -> None:
        """It is JSON: names that mean something to a database, big numbers, and no way to change it from outside."""
        context: dict[str, Any] = {"$where": "1", "a.b": [None, True, 1.5, 2**70, "ø\x00"], "": {"x": {}}}
        token = await harness.store.issue("ann", 30, context=context)
        context["a.b"].append("later")
        record = await harness.store.redeem(token)
        assert record.context == {"$where": "1", "a.b": [None, True, 1.5, 2**70, "ø\x00"], "": {"x": {}}}
        empty = await harness.store.redeem(await harness.store.issue("ann", 30, context={}))
        assert empty.context == {}

    async def test_revoke_makes_the_live_tokens_of_one_user_unknown_and_counts_them(
        self, harness: StoreHarness
    ) -> None:
        # A25
        store = harness.store
        await store.issue("ann", 5)  # will have expired, so it is not counted
        spent, *live = [await store.issue("ann", 30) for _ in range(4)]
        other = await store.issue("anna", 30)
        await store.redeem(spent)
        await harness.pass_time(10)
        assert await store.revoke_user("ann") == 3
        assert [await rejection(store.redeem(token)) for token in live] == [("unknown", None)] * 3
        assert await rejection(store.redeem(spent)) == ("replayed", "ann")
        assert await store.revoke_user("ann") == 0
        assert (await store.redeem(other)).user_id == "anna"
        assert (await store.redeem(await store.issue("ann", 30))).user_id == "ann"

    async def test_user_holds_no_more_live_tokens_than_max_live(self, harness: StoreHarness) -> None:
        """Spent, revoked and expired tokens make room, and other users are not concerned."""
        # A4
        store = harness.store
        first, *_ = [await store.issue("ann", 30, max_live=3) for _ in range(3)]
        with pytest.raises(TokenLimitReached):
            await store.issue("ann", 30, max_live=3)
        await store.issue("bob", 30, max_live=3)
        await store.redeem(first)
        await store.issue("ann", 30, max_live=3)
        with pytest.raises(TokenLimitReached):
            await store.issue("ann", 30, max_live=3)
        assert await store.revoke_user("ann") == 3, "a refused call left a token behind"
        for _ in range(3):
            await store.issue("ann", 5, max_live=3)
        await harness.pass_time(10)
        for _ in range(3):
            await store.issue("ann", 30, max_live=3)
        with pytest.raises(TokenLimitReached):
            await store.issue("ann", 30, max_live=3)

    async def test_tokens_that_have_expired_make_room_beside_one_that_lives(self, harness: StoreHarness) -> None:
        # A4
        store = harness.store
        for ttl in (30, 5, 5):
            await store.issue("ann", ttl, max_live=3)
        await harness.pass_time(10)
        for _ in range(2):
            await store.issue("ann", 30, max_live=3)
        with pytest.raises(TokenLimitReached):
            await store.issue("ann", 30, max_live=3)
        assert await store.revoke_user("ann") == 3

    async def test_max_live_holds_when_40_calls_race(self, harness: StoreHarness) -> None:
        # A4
        store = harness.store
        await store.issue("ann", 30)
        results = await outcomes(*(store.issue("ann", 30, max_live=5) for _ in range(40)))
        issued = [result for result in results if isinstance(result, str)]
        assert len(issued) <= 4
        assert [type(result) for result in results if result not in issued] == [TokenLimitReached] * (40 - len(issued))
        for token in issued:
            assert (await store.redeem(token)).user_id == "ann"
        assert await store.revoke_user("ann") == 1

    async def test_start_may_be_called_again_and_at_the_same_time(self, harness: StoreHarness) -> None:
        # A36
        token = await harness.store.issue("ann", 30)
        assert await outcomes(*(harness.store.start() for _ in range(5))) == [None] * 5
        await harness.store.start()
        assert (await harness.store.redeem(token)).user_id == "ann"
