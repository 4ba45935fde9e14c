"""What an application says when it fails is shown without what is secret in it."""

from __future__ import annotations

import pytest

from tornado_wsauth.doctor.secrets import hide, secrets_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bad URI mongodb://alice:hunter2@db.example/app", "bad URI mongodb://[hidden]@db.example/app"),
        ("redis://:hunter2@localhost:6379/0 failed", "redis://[hidden]@localhost:6379/0 failed"),
        ("mongodb://alice:hun/ter@2@db.example", "mongodb://[hidden]@db.example"),
        ("the token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln is bad", "the token [hidden] is bad"),
        ("JWT_SECRET='two words' is short", "JWT_SECRET=[hidden] is short"),
        ("password: hunter2, user: alice", "password: [hidden], user: alice"),
        ("KeyError: 'JWT_SECRET'", "KeyError: 'JWT_SECRET'"),
        ("WSAuth(token_ttl=0): must be positive", "WSAuth(token_ttl=0): must be positive"),
        ("see https://docs.example/x", "see https://docs.example/x"),
    ],
)
def test_what_is_secret_by_its_form_is_hidden_and_the_rest_is_not(text, shown):
    assert hide(text) == shown


def test_values_of_the_environment_are_hidden_where_their_name_says_so():
    environment = {"DB_PASSWORD": "correct horse", "HOME": "/home/alice", "SHORT_KEY": "abc"}
    assert secrets_of(environment) == ["correct horse", "abc"]
    text = "correct horse in /home/alice, abc"
    assert hide(text, secrets_of(environment)) == "[hidden] in /home/alice, abc"


def test_of_two_secrets_one_within_the_other_nothing_is_left():
    assert hide("it is abcdefghij", ["abcdef", "abcdefghij"]) == "it is [hidden]"
