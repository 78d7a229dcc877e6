"""The API's description tells what every route answers and what it refuses, with words, units and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import pytest
from described import Described
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError

from callus.service.api.common import Body
from callus.service.app import create_app
from callus.service.description import rules_of

Whole = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(SimpleNamespace())  # type: ignore[arg-type]  # nobody asks it anything


@pytest.fixture(scope="module")
def whole(app: FastAPI) -> Whole:
    return app.openapi()


def answers(whole: Whole) -> Iterator[tuple[str, int, str, Whole]]:
    """Each answer of each route: its name, its status, its kind and its schema, looked up."""
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    yield f"{method.upper()} {path}", int(status), kind, looked_up(whole, content.get("schema", {}))


def looked_up(whole: Whole, schema: Whole) -> Whole:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Whole = whole["components"]["schemas"][name] if name else schema
    return found


def without_schema(whole: Whole) -> list[str]:
    """Routes that answer JSON of which nothing is told."""
    return [
        name
        for name, status, kind, schema in answers(whole)
        if kind.endswith("json") and status < 300 and (schema.get("type") != "object" or "properties" not in schema)
    ]


def inside(whole: Whole, schema: Whole, seen: set[int]) -> Iterator[tuple[str, Whole]]:
    """The fields of a schema, and of all that is in it."""
    schema = looked_up(whole, schema)
    if id(schema) in seen:
        return
    seen.add(id(schema))
    for name, field in schema.get("properties", {}).items():
        yield f"{schema.get('title')}.{name}", field
        yield from inside(whole, field, seen)
    for part in (*schema.get("anyOf", ()), schema.get("items", {}), schema.get("additionalProperties", {})):
        if isinstance(part, dict) and part:
            yield from inside(whole, part, seen)


def test_every_json_route_tells_what_it_answers(whole: Whole) -> None:
    assert without_schema(whole) == []
    told = {name for name, status, _, _ in answers(whole) if status < 300}
    sent_elsewhere = {"GET /api/v1/login/openid", "GET /api/v1/login/openid/return"}
    assert {f"{method.upper()} {path}" for path, of in whole["paths"].items() for method in of} == told | sent_elsewhere


def test_a_route_that_does_not_would_be_seen() -> None:
    app = FastAPI()

    @app.get("/bare")
    def bare() -> dict[str, Any]:
        return {}

    @app.get("/barer")
    def barer():  # noqa: ANN202
        return {}

    assert without_schema(app.openapi()) == ["GET /bare", "GET /barer"]


def test_every_field_that_is_taken_is_told(whole: Whole) -> None:
    fields = [
        field
        for operations in whole["paths"].values()
        for operation in operations.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for field in inside(whole, content["schema"], set())
    ]
    assert [name for name, field in fields if not field.get("description")] == []
    assert len(fields) > 20


def test_every_field_of_an_answer_is_told(whole: Whole) -> None:
    seen: set[int] = set()
    fields = [
        one for _, _, kind, schema in answers(whole) if kind.endswith("json") for one in inside(whole, schema, seen)
    ]
    for name in ("Finding", "StudyChanged"):
        fields += inside(whole, {"$ref": f"#/components/schemas/{name}"}, seen)
    assert [name for name, field in fields if not field.get("description")] == []
    assert len(fields) > 150
    told = dict(fields)
    assert (told["AnswerWhole.probability"]["minimum"], told["AnswerWhole.probability"]["maximum"]) == (0, 1)
    assert "millimetres" in told["BoxInMillimetres.x"]["description"]
    assert "pixels" in told["AnsweredBox.width"]["description"]
    assert "seconds" in told["Finding.seconds"]["description"]


def test_every_refusal_is_told_as_it_is(app: FastAPI, whole: Whole) -> None:
    for name, status, kind, schema in answers(whole):
        if status >= 400 and kind == "application/json" and name != "GET /api/v1/ready":
            error = looked_up(whole, schema["properties"]["error"])
            assert set(error["properties"]) == {"what", "hint"}, (name, status)
    assert not {"HTTPValidationError", "ValidationError"} & set(whole["components"]["schemas"])
    for route in app.routes:
        assert isinstance(route, APIRoute)
        if route.include_in_schema:
            (method,) = route.methods
            told = {int(status) for status in whole["paths"][route.path_format][method.lower()]["responses"]}
            (rule,) = rules_of(route)
            assert (told >= {401, 403}) == (rule.role is not None) or rule.role is None, route.path
            assert ({400, 408, 413} <= told) == ("requestBody" in whole["paths"][route.path_format][method.lower()])
            assert 404 in told or "{number}" not in route.path
            assert 500 in told


def test_every_route_tells_who_may_and_what_they_bring(app: FastAPI, whole: Whole) -> None:
    schemes = whole["components"]["securitySchemes"]
    assert {name: (one["type"], one.get("name", one.get("scheme"))) for name, one in schemes.items()} == {
        "bearer": ("http", "bearer"),
        "cookie": ("apiKey", "callus_session"),
        "csrf": ("apiKey", "X-CSRF-Token"),
    }
    told = {}
    for route in app.routes:
        assert isinstance(route, APIRoute)
        if not route.include_in_schema:
            continue
        ((method,), (rule,)) = (route.methods, rules_of(route))
        operation = whole["paths"][route.path_format][method.lower()]
        told[f"{method} {route.path_format}"] = operation
        needed = operation["security"]
        if rule.role is None:
            assert needed == []
            continue
        assert f"the role {rule.role}" in operation["description"]
        assert {"bearer": [rule.scope]} in needed or rule.scope is None
        assert any("csrf" in one for one in needed) == (method != "GET")
    assert told["POST /api/v1/radiographs"]["security"] == [{"bearer": ["send"]}, {"cookie": [], "csrf": []}]
    assert told["GET /api/v1/studies"]["security"] == [{"bearer": ["read"]}, {"cookie": []}]
    assert told["POST /api/v1/tokens"]["security"] == [{"cookie": [], "csrf": []}]
    assert told["GET /api/v1/metrics"]["security"][-1] == {}
    assert "a token needs the scope send" in told["POST /api/v1/radiographs"]["description"]
    assert told["POST /api/v1/login"]["security"] == []


def test_an_answer_that_is_not_told_of_is_seen(app: FastAPI) -> None:
    described = Described(app)
    notice = "research and education"

    def answer(status: int, given: Any, path: str = "/api/v1/health", **headers: str) -> httpx.Response:
        request = httpx.Request("GET", f"http://callus.test{path}")
        return httpx.Response(status, json=given, headers=headers, request=request)

    described.check(answer(200, {"alive": True, "openid": False, "notice": notice}))
    described.check(answer(404, {}, path="/api/v1/nothing/here"))  # no route's
    for wrong in (
        answer(200, {"alive": "yes", "openid": False, "notice": notice}),
        answer(200, {"alive": True}),
        answer(404, {"error": {"what": "", "hint": ""}}),
        answer(500, {"detail": "failed"}),
        answer(200, {}, **{"Content-Type": "text/html"}),
    ):
        with pytest.raises(AssertionError, match="GET /api/v1/health: "):
            described.check(wrong)


def test_a_body_takes_nothing_for_what_it_is_not(app: FastAPI) -> None:
    """Pydantic by itself takes "5" for 5, true for 1 and 0 for false; the description says that they do not fit."""
    wrong = {int: ("5", True, 5.5), float: ("5", True), bool: (0, "true")}
    tried = set[str]()
    for route in app.routes:
        if not isinstance(route, APIRoute) or route.body_field is None:
            continue
        assert issubclass(route.body_field.field_info.annotation, Body), route.path
        for model in bodies(route.body_field.field_info.annotation):
            for name, field in model.model_fields.items():
                kinds = {field.annotation, *get_args(field.annotation)}
                for value in (value for kind, values in wrong.items() if kind in kinds for value in values):
                    with pytest.raises(ValidationError) as caught:
                        model.model_validate({field.alias or name: value})
                    refused = {one["loc"]: one["type"] for one in caught.value.errors()}
                    assert refused.get((field.alias or name,), "").endswith("_type"), (route.path, name, value)
                    tried.add(name)
    assert {"days", "user", "last", "limit", "label", "agrees", "disabled", "x", "height"} <= tried


def bodies(body: type[Body]) -> Iterator[type[Body]]:
    """A body, and those in its lists."""
    yield body
    for field in body.model_fields.values():
        for kind in get_args(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Body):
                yield from bodies(kind)
