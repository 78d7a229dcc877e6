"""Every route has a rule, and every role, token and stranger gets from it what the rule says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from clinic import ROLES, Browser, Clinic, opened
from fastapi.routing import APIRoute

from callus.service.api import ROUTERS
from callus.service.database import Database
from callus.service.description import rules_of as rules
from callus.service.roles import SCOPES

ROUTES: list[APIRoute] = [route for router in ROUTERS for route in router.routes]  # type: ignore[misc]
ON_SQLITE = pytest.mark.parametrize("clinic", ["sqlite"], indirect=True)  # each role asks each route on both
OPEN = {
    "/api/v1/health",
    "/api/v1/ready",
    "/api/v1/login",
    "/api/v1/first",
    "/api/v1/accept",
    "/api/v1/reset",
    "/api/v1/login/openid",
    "/api/v1/login/openid/return",
    "/",
    "/studies/{number}",
    "/administration",
    "/icon.svg",
    "/assets/{name}",
}
# Who may do what, written down a second time: a rule that changes has to be changed here too.
LEAST = {
    "GET /api/v1/metrics": ("administrator", "administer"),
    "GET /api/v1/openapi.json": ("reader", "read"),
    "GET /api/v1/me": ("reader", "read"),
    "POST /api/v1/me/password": ("reader", None),
    "POST /api/v1/logout": ("reader", None),
    "GET /api/v1/tokens": ("reader", None),
    "POST /api/v1/tokens": ("reader", None),
    "DELETE /api/v1/tokens/{number}": ("reader", None),
    "GET /api/v1/users": ("administrator", "administer"),
    "PATCH /api/v1/users/{number}": ("administrator", "administer"),
    "POST /api/v1/users/{number}/reset": ("administrator", "administer"),
    "POST /api/v1/invitations": ("administrator", "administer"),
    "GET /api/v1/audit": ("administrator", "administer"),
    "POST /api/v1/radiographs": ("reader", "send"),
    "POST /dicom-web/studies": ("reader", "send"),
    "POST /dicom-web/studies/{study}": ("reader", "send"),
    "POST /api/v1/pull": ("radiologist", "send"),
    "GET /api/v1/pull": ("radiologist", "read"),
    "POST /api/v1/pull/search": ("radiologist", "send"),
    "GET /api/v1/studies": ("reader", "read"),
    "POST /api/v1/studies/search": ("reader", "read"),
    "GET /api/v1/studies/{number}": ("reader", "read"),
    "DELETE /api/v1/studies/{number}": ("administrator", "administer"),
    "GET /api/v1/studies/{number}/deidentified.zip": ("administrator", "administer"),
    "GET /api/v1/images/{number}/frame.png": ("reader", "read"),
    "GET /api/v1/images/{number}/frame.bin": ("reader", "read"),
    "GET /api/v1/images/{number}/heat.png": ("reader", "read"),
    "GET /api/v1/images/{number}/overlay.png": ("reader", "read"),
    "GET /api/v1/images/{number}/sr.dcm": ("radiologist", "read"),
    "GET /api/v1/images/{number}/sc.dcm": ("radiologist", "read"),
    "GET /api/v1/images/{number}/pr.dcm": ("radiologist", "read"),
    "GET /api/v1/images/{number}/report.fhir.json": ("radiologist", "read"),
    "GET /api/v1/images/{number}/original": ("radiologist", "read"),
    "POST /api/v1/images/{number}/verdict": ("radiologist", "verdict"),
    "POST /api/v1/images/{number}/retry": ("reader", "send"),
    "GET /api/v1/verdicts/export": ("radiologist", "verdict"),
    "GET /api/v1/events": ("reader", "read"),
    "GET /api/v1/jobs": ("administrator", "administer"),
    "POST /api/v1/jobs/{number}/retry": ("administrator", "administer"),
    "POST /api/v1/jobs/{number}/drop": ("administrator", "administer"),
    "POST /api/v1/jobs/retry": ("administrator", "administer"),
    "POST /api/v1/jobs/drop": ("administrator", "administer"),
    "GET /api/v1/models": ("reader", "read"),
    "POST /api/v1/models": ("administrator", "administer"),
    "POST /api/v1/models/{number}/trial": ("administrator", "administer"),
    "GET /api/v1/models/{number}/trial": ("administrator", "administer"),
    "POST /api/v1/models/{number}/switch": ("administrator", "administer"),
}


def name(route: APIRoute) -> str:
    (method,) = route.methods
    return f"{method} {route.path}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def clinic(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path
) -> Iterator[Clinic]:
    with ExitStack() as ending:
        database = None
        if request.param == "postgresql":
            url = ending.enter_context(request.getfixturevalue("on_postgresql")(request.getfixturevalue("template")))
            database = ending.enter_context(closing(Database(url)))
        folder = tmp_path_factory.mktemp("access") / "data"
        yield ending.enter_context(opened(folder, tiny_bundle, database, behind_proxy=True))


@ON_SQLITE
def test_every_route_of_the_application_has_one_rule(clinic: Clinic) -> None:
    assert [type(route) for route in clinic.app.routes] == [APIRoute] * len(ROUTES)
    for route in clinic.app.routes:
        assert isinstance(route, APIRoute)
        assert len(rules(route)) == 1, name(route)


def test_a_route_without_a_rule_would_be_seen() -> None:
    from fastapi import APIRouter

    router = APIRouter()

    @router.get("/bare")
    def bare() -> None:
        """Nothing."""

    (route,) = router.routes
    assert isinstance(route, APIRoute)
    assert rules(route) == []


def test_the_rules_are_those_that_were_meant() -> None:
    stated = {name(route): (rule.role, rule.scope) for route in ROUTES for rule in rules(route)}
    expected: dict[str, Any] = {name(route): (None, None) for route in ROUTES if route.path in OPEN} | LEAST
    assert stated == expected


def ask(browser: Browser, route: APIRoute) -> int:
    """Ask for something that is not there or does not fit: whoever may is told 404 or 422 and changes nothing."""
    (method,) = route.methods
    path = route.path.replace("{number}", "999999").replace("{name}", "nothing.js")
    given: dict[str, Any] = {"whole": True}
    if method in ("POST", "PATCH") and route.path != "/api/v1/logout":
        given["json"] = {"nonsense": True}
    if route.path == "/api/v1/events":
        given["headers"] = {"Last-Event-ID": "nonsense"}
    return browser.ask(method, path, **given).status_code


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_each_role_gets_what_the_rule_says(clinic: Clinic, route: APIRoute) -> None:
    (rule,) = rules(route)
    refused = {401, 403}
    for role in ROLES:
        browser = clinic.browser(clinic.users[role])
        status = ask(browser, route)
        may = rule.role is None or ROLES.index(role) >= ROLES.index(rule.role)
        assert (status not in refused) == may or route.path in OPEN, (role, status)
        assert status < 500 or (status == 503 and route.path in OPEN), (role, status)
        if rule.role is not None:
            assert (status == 403) == (not may), (role, status)
    if rule.role is not None:
        assert ask(clinic.nobody, route) == 401
        assert ask(Browser(clinic, cookie="x", token="callus_x"), route) == 401  # noqa: S106 - is none


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path not in OPEN], ids=name)
@ON_SQLITE
def test_a_token_needs_the_scope_and_its_owner_the_role(clinic: Clinic, route: APIRoute) -> None:
    (rule,) = rules(route)
    for role in ROLES:
        for scope in SCOPES:
            status = ask(clinic.program(role, scope), route)
            may = ROLES.index(role) >= ROLES.index(rule.role or "") and scope == rule.scope
            assert (status != 403) == may, (role, scope, status)
            assert status not in (401, 500)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if "GET" not in route.methods and route.path not in OPEN], ids=name
)
@ON_SQLITE
def test_what_changes_something_needs_the_csrf_token_and_the_same_page(clinic: Clinic, route: APIRoute) -> None:
    (method,) = route.methods
    path = route.path.removeprefix("/api/v1").replace("{number}", "999999")
    admin = clinic.browser(clinic.users["administrator"])
    other = clinic.browser(clinic.users["administrator"])
    token = admin.csrf
    admin.csrf = ""
    assert admin.ask(method, path, json={}).status_code == 403
    for headers in (
        {"X-CSRF-Token": other.csrf},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": token, "Origin": "https://evil.example"},
        {"X-CSRF-Token": token, "Origin": "null"},
        {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": token, "Sec-Fetch-Site": "same-site"},
    ):
        assert admin.ask(method, path, json={}, headers=headers).status_code == 403, headers
    same = {"X-CSRF-Token": token, "Origin": "http://callus.test", "Sec-Fetch-Site": "same-origin"}
    if route.path != "/api/v1/logout":
        assert admin.ask(method, path, json={}, headers=same).status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/login", "/first", "/accept", "/reset"])
@ON_SQLITE
def test_nobody_is_logged_in_from_another_page(clinic: Clinic, path: str) -> None:
    given = {"name": "ada", "password": "x" * 12, "secret": "x"}
    answer = clinic.nobody.post(path, given, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    form = clinic.nobody.ask("POST", path, content=b'{"name": "ada"}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 422


def test_metrics_are_for_this_machine_only_where_no_proxy_hides_who_asks(clinic: Clinic) -> None:
    assert clinic.nobody.get("/metrics").status_code == 401
    assert clinic.program("administrator", "administer").get("/metrics").status_code == 200
