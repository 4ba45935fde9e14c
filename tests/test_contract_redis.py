"""`RedisBackplane` and `RedisLease` on a real server: the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract_harness_redis import RedisHarness, RedisLeaseHarness
from tests.contracts.backplane import BackplaneContract
from tests.contracts.lease import LeaseContract

pytestmark = pytest.mark.engines


class TestRedisBackplane(BackplaneContract):
    @pytest.fixture
    def harness(self, io_loop: Any, redis_url: str, redis_prefix: str) -> Iterator[RedisHarness]:
        harness = RedisHarness(redis_url, redis_prefix)
        yield harness
        io_loop.run_sync(harness.close)


class TestRedisLease(LeaseContract):
    @pytest.fixture
    def harness(self, redis_client: Callable[..., Any], redis_prefix: str) -> RedisLeaseHarness:
        return RedisLeaseHarness(redis_client(), redis_prefix)
