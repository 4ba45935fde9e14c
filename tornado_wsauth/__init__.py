"""Two-step WebSocket authentication for Tornado: a single-use token before the upgrade, a JWT after it.

The public names. No database driver is imported here: the stores that need one load when they are first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tornado_wsauth.auth import WSAuth as WSAuth
from tornado_wsauth.backplane.base import Backplane as Backplane
from tornado_wsauth.backplane.memory import MemoryBackplane as MemoryBackplane
from tornado_wsauth.broadcaster import Broadcaster as Broadcaster
from tornado_wsauth.client_files import ClientFilesHandler as ClientFilesHandler
from tornado_wsauth.clock import Clock as Clock
from tornado_wsauth.connections import Connections as Connections
from tornado_wsauth.errors import AuthError as AuthError
from tornado_wsauth.errors import BackplaneError as BackplaneError
from tornado_wsauth.errors import CloseCode as CloseCode
from tornado_wsauth.errors import ConfigurationError as ConfigurationError
from tornado_wsauth.errors import KeySourceError as KeySourceError
from tornado_wsauth.errors import TokenLimitReached as TokenLimitReached
from tornado_wsauth.errors import TokenRejected as TokenRejected
from tornado_wsauth.errors import TokenStoreError as TokenStoreError
from tornado_wsauth.errors import WSAuthError as WSAuthError
from tornado_wsauth.fanout import FanOut as FanOut
from tornado_wsauth.health import HealthHandler as HealthHandler
from tornado_wsauth.jwks import JWKS as JWKS
from tornado_wsauth.leases.base import Lease as Lease
from tornado_wsauth.mixin import WebSocketAuthMixin as WebSocketAuthMixin
from tornado_wsauth.observer import Observer as Observer
from tornado_wsauth.session import AuthSession as AuthSession
from tornado_wsauth.stores.base import TokenStore as TokenStore
from tornado_wsauth.stores.memory import MemoryTokenStore as MemoryTokenStore
from tornado_wsauth.token_handler import TokenHandler as TokenHandler
from tornado_wsauth.tokens import TokenRecord as TokenRecord
from tornado_wsauth.tokens import TokenReplay as TokenReplay
from tornado_wsauth.verifier import JWTVerifier as JWTVerifier

if TYPE_CHECKING:
    from tornado_wsauth.backplane.mongo import MongoBackplane as MongoBackplane
    from tornado_wsauth.backplane.redis import RedisBackplane as RedisBackplane
    from tornado_wsauth.leases.mongo import MongoLease as MongoLease
    from tornado_wsauth.leases.redis import RedisLease as RedisLease
    from tornado_wsauth.stores.mongo import MongoTokenStore as MongoTokenStore
    from tornado_wsauth.stores.redis import RedisTokenStore as RedisTokenStore

__version__ = "0.1.0"

__all__ = [
    "JWKS",
    "AuthError",
    "AuthSession",
    "Backplane",
    "BackplaneError",
    "Broadcaster",
    "ClientFilesHandler",
    "Clock",
    "CloseCode",
    "ConfigurationError",
    "Connections",
    "FanOut",
    "HealthHandler",
    "JWTVerifier",
    "KeySourceError",
    "Lease",
    "MemoryBackplane",
    "MemoryTokenStore",
    "MongoBackplane",
    "MongoLease",
    "MongoTokenStore",
    "Observer",
    "RedisBackplane",
    "RedisLease",
    "RedisTokenStore",
    "TokenHandler",
    "TokenLimitReached",
    "TokenRecord",
    "TokenRejected",
    "TokenReplay",
    "TokenStore",
    "TokenStoreError",
    "WSAuth",
    "WSAuthError",
    "WebSocketAuthMixin",
]


_NEED_A_DRIVER = {
    "MongoBackplane": ("tornado_wsauth.backplane.mongo", "the PyMongo driver", "mongo"),
    "MongoLease": ("tornado_wsauth.leases.mongo", "the PyMongo driver", "mongo"),
    "MongoTokenStore": ("tornado_wsauth.stores.mongo", "the PyMongo driver", "mongo"),
    "RedisBackplane": ("tornado_wsauth.backplane.redis", "the redis driver", "redis"),
    "RedisLease": ("tornado_wsauth.leases.redis", "the redis driver", "redis"),
    "RedisTokenStore": ("tornado_wsauth.stores.redis", "the redis driver", "redis"),
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_A_DRIVER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, driver, extra = _NEED_A_DRIVER[name]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ImportError(f'{name} needs {driver}: pip install "tornado_wsauth[{extra}]"', name=error.name) from error
