"""`MongoBackplane` and `MongoLease` on a real server: the contracts."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract_harness_mongo import MongoHarness, MongoLeaseHarness
from tests.contracts.backplane import BackplaneContract
from tests.contracts.lease import LeaseContract
from tests.mongo_processes import collected as collected
from tests.mongo_processes import pytestmark as pytestmark


@pytest.fixture
def prefix() -> str:
    return f"wsauth_{secrets.token_hex(4)}_"


class TestMongoBackplane(BackplaneContract):
    @pytest.fixture
    def harness(self, io_loop: Any, mongodb_uri: str, mongo_database_name: str, prefix: str) -> Iterator[MongoHarness]:
        harness = MongoHarness(mongodb_uri, mongo_database_name, prefix)
        yield harness
        io_loop.run_sync(harness.close)


class TestMongoLease(LeaseContract):
    @pytest.fixture
    def harness(
        self, io_loop: Any, mongo_client: Callable[..., Any], mongo_database_name: str, prefix: str
    ) -> Iterator[MongoLeaseHarness]:
        harness = MongoLeaseHarness(mongo_client()[mongo_database_name], prefix)
        yield harness
        io_loop.run_sync(harness.close)
