"""The options of live connections: a wrong one is a mistake at start-up, and says which and what was given."""

from __future__ import annotations

import pytest

from tests.support import make_auth
from tornado_wsauth import ConfigurationError

WRONG = [
    ("max_connections_per_user", [0, -1, 1.5, True, "3", float("inf"), float("nan"), [1]]),
    ("over_limit", ["evict", "", None, "Refuse", 1, ["refuse"], b"refuse"]),
    (
        "message_rate",
        [
            0,
            10,
            "10/s",
            (),
            (1,),
            (1, 2, 3),
            (0, 1),
            (1, 0),
            (-1, 1),
            (1, -1),
            (1.5, 1),
            ("1", 1),
            (1, "1"),
            (1, None),
            (None, 1),
            (1, float("inf")),
            (1, float("nan")),
            (float("inf"), 1),
            (True, 1),
            (1, True),
            {1, 2},
        ],
    ),
    ("bind_tokens", ["origin", b"path", None, 1, ["ip"], ["origin", "Path"], [None], [["origin"]], [1]]),
    ("client_address", [None, "10.0.0.1", 1, []]),
    ("on_replay", ["log", 1, []]),
    ("refuse", ["http2", "", None, "Close", 4401, ["close"]]),
]


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in WRONG for value in values])
def test_a_wrong_value_is_a_mistake_that_names_option_and_value(option, value):
    with pytest.raises(ConfigurationError) as caught:
        make_auth(**{option: value})
    assert option in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections_per_user": 1, "over_limit": "evict_oldest"},
        {"message_rate": [10, 0.5]},
        {"bind_tokens": ("origin", "path", "address")},
        {"bind_tokens": {"path"}},
        {"bind_tokens": iter(["path"])},
        {"client_address": lambda request: "10.0.0.1"},
        {"on_replay": print},
        {"refuse": "close"},
    ],
)
def test_a_right_value_is_taken(options):
    auth = make_auth(**options)
    for name, value in options.items():
        if name not in ("bind_tokens", "message_rate"):
            assert getattr(auth, name) == value, name


@pytest.mark.gen_test
@pytest.mark.parametrize("grace", [-1, -0.001, float("nan"), float("inf"), "10", None, True, [1]])
async def test_a_grace_that_is_no_number_of_seconds_is_a_mistake_and_closes_nothing(serve, login, grace):
    # A27
    server = serve()
    await login(server)
    with pytest.raises(ValueError, match="grace"):
        await server.auth.close(grace=grace)
    await login(server, "bob")
    assert len(server.auth.connections) == 2
