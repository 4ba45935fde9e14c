"""Routes are found wherever Tornado would find them."""

from __future__ import annotations

from tornado.routing import AnyMatches, HostMatches, PathMatches, Rule, RuleRouter
from tornado.web import Application, RequestHandler, url

from tests.doctor.kit import Chat, make_app
from tornado_wsauth import TokenHandler
from tornado_wsauth.doctor.routes import find_routes


def wheres(root: object) -> list[str]:
    return [route.where for route in find_routes(root).routes]


def test_routes_of_hosts_are_found_with_their_host():
    app = Application([(r"/ws", Chat)])
    app.add_handlers(r"chat\.example", [(r"/ws/token", TokenHandler)])
    assert wheres(app) == [r"/ws/token on chat\.example (TokenHandler)", "/ws (Chat)"]


def test_a_default_host_does_not_double_routes():
    app = Application([(r"/ws", Chat)], default_host="chat.example")
    app.add_handlers(r"chat\.example", [(r"/ws/token", TokenHandler)])
    assert len(wheres(app)) == 2


def test_applications_and_lists_inside_routers_are_found():
    inner = Application([(r"/inner/ws", Chat)])
    app = Application([(r"/outer", Chat), (AnyMatches(), [(r"/listed", TokenHandler)]), url(r"/named", Chat, name="n")])
    root = RuleRouter(
        [Rule(PathMatches(r"/inner/.*"), inner), Rule(HostMatches("a"), RuleRouter([Rule(AnyMatches(), app)]))]
    )
    assert wheres(root) == [
        "/inner/ws (Chat)",
        "/outer on a (Chat)",
        "/listed on a (TokenHandler)",
        "/named on a (Chat)",
    ]


def test_each_route_has_the_application_whose_settings_count():
    one, other = make_app(), make_app()
    routes = find_routes(RuleRouter([Rule(HostMatches("a"), one), Rule(HostMatches("b"), other)])).routes
    assert [route.application for route in routes] == [one, one, other, other]


def test_a_router_that_leads_to_itself_is_walked_once():
    router = RuleRouter([])
    router.add_rules([Rule(AnyMatches(), router), Rule(PathMatches("/app.*"), make_app())])
    assert len(wheres(router)) == 2


def test_what_only_knows_when_it_is_asked_is_named():
    def answer(request: object) -> None: ...

    assert find_routes(RuleRouter([Rule(AnyMatches(), answer)])).opaque[0].endswith("answer")


def test_a_path_that_leads_there_is_made_of_the_pattern():
    class Page(RequestHandler):
        pass

    app = Application([(r"/a/(\d+)/(.*)", Page), (r"/b/([a-z]+)", Page), (r"/c/(x|(y))", Page), (r"/d\.json", Page)])
    assert [route.path for route in find_routes(app).routes] == ["/a/1/1", None, None, "/d.json"]
