"""The alert rules, the dashboard and the page about them, before a real Prometheus."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.operate.prometheus import (
    CONFIGURATION,
    DASHBOARD,
    PAGE,
    RULE_TESTS,
    RULES,
    Prometheus,
    dashboard,
    named,
    panel_expressions,
    promtool,
    registered,
    with_variables,
)
from tests.operate.traffic import come_and_go, two_processes
from tests.support import http

pytestmark = pytest.mark.operate


def alerts() -> list[str]:
    return [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


# What is shipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", RULES), ("test", "rules", RULE_TESTS), ("check", "config", CONFIGURATION)],
    ids=["rules", "tests of the rules", "configuration"],
)
def test_promtool_has_nothing_against_it(arguments):
    status, said = promtool(*map(str, arguments))
    assert status == 0, said
    assert "SUCCESS" in said


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_is_seen_to_fire_and_not_to_fire(alert):
    tests = [test for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] if test["name"].startswith(f"{alert}:")]
    outcomes = {bool(step["exp_samples"]) for test in tests for step in test["promql_expr_test"]}
    assert outcomes == {True, False}


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_has_its_first_steps_on_the_page(alert):
    assert re.search(rf"^#+ {alert}$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("file", [RULES, RULE_TESTS, DASHBOARD, PAGE], ids=lambda file: file.name)
def test_each_metric_that_is_named_there_exists(file):
    assert named(file.read_text(encoding="utf-8")) - registered() == set()


@pytest.mark.parametrize("name", sorted(registered()))
def test_each_metric_is_on_the_page_and_on_the_dashboard(name):
    assert name in named(PAGE.read_text(encoding="utf-8"))
    assert name in named(DASHBOARD.read_text(encoding="utf-8"))


def test_each_panel_asks_the_data_source_that_was_chosen_for_what_was_chosen():
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            assert target["expr"].count("$job") == target["expr"].count("$instance") == target["expr"].count("{") > 0


def test_no_two_panels_overlap_and_each_says_what_it_shows():
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        for cell in [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]:
            assert cell[0] < 24
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
        assert panel["type"] == "row" or panel["description"]


# What is served ----------------------------------------------------------------------------------------------------


@pytest.fixture
def scraping(tmp_path: Path, serve, io_loop) -> Iterator[tuple]:
    servers = io_loop.run_sync(lambda: two_processes(serve))
    prometheus = Prometheus(tmp_path, [server.port for server in servers])
    yield prometheus, servers
    prometheus.close()


@pytest.mark.gen_test
async def test_promtool_has_nothing_against_what_is_served(serve, login, connect):
    servers = await two_processes(serve)
    await come_and_go(servers, login, connect)
    response = await http(servers[0], "/metrics", method="GET")
    assert response.status == 200
    assert promtool("check", "metrics", text=response.body.decode()) == (0, "")


@pytest.mark.gen_test
async def test_with_traffic_each_panel_has_data_each_variable_has_values_and_no_rule_fails(scraping, login, connect):
    prometheus, servers = scraping
    await prometheus.started()
    empty = panel_expressions()
    while empty:  # a rate has data from the second scrape on
        await come_and_go(servers, login, connect)
        empty = [(title, expression) for title, expression in empty if not await prometheus.query(expression)]

    for annotation in dashboard()["annotations"]["list"]:
        if "expr" in annotation:
            await prometheus.query(with_variables(annotation["expr"]))
    ports = {f"127.0.0.1:{server.port}" for server in servers}
    for label, values in (("job", {"app"}), ("instance", ports)):
        assert set(await prometheus.ask(f"label/{label}/values", **{"match[]": "wsauth_connections"})) == values

    states: dict[str, str] = {}
    while len(states) < len(alerts()) or "unknown" in states.values():  # which is that of a rule not yet evaluated
        await asyncio.sleep(0.05)
        groups = (await prometheus.ask("rules"))["groups"]
        states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(states.values()) == {"ok"}


@pytest.mark.gen_test
async def test_a_token_that_comes_twice_is_an_alert_whose_text_names_the_process(scraping, login, connect):
    prometheus, servers = scraping
    await prometheus.started()
    instance = f"127.0.0.1:{servers[0].port}"
    await prometheus.until(f'wsauth_token_redeems_total{{instance="{instance}"}}')  # else it saw no increase
    await come_and_go(servers, login, connect)
    await prometheus.until('ALERTS{alertname="WsauthTokenReplayed", alertstate="firing"}')
    fired = (await prometheus.ask("alerts"))["alerts"]
    [replayed] = [alert for alert in fired if alert["labels"]["alertname"] == "WsauthTokenReplayed"]
    assert instance in replayed["annotations"]["summary"]
    assert "<error" not in str(fired)  # which is how Prometheus shows a template that it cannot fill in
