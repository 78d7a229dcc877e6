"""Whether what a service answers is what its description (OpenAPI) says of it.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from starlette.routing import Match


class Described:
    """An application's description, and answers held against it."""

    def __init__(self, app: FastAPI) -> None:
        self._whole = app.openapi()
        self._routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
        self._validator = cache(self._made)

    def check(self, answer: httpx.Response) -> None:
        """Refuse an answer to a route whose status, kind or content is another than the description says."""
        request = answer.request
        scope = {"type": "http", "method": request.method, "path": request.url.path, "root_path": ""}
        route = next((one for one in self._routes if one.matches(scope)[0] is Match.FULL), None)
        if route is None:
            return
        operation = self._whole["paths"][route.path_format][request.method.lower()]
        what = f"{request.method} {route.path_format}: {answer.status_code}"
        assert str(answer.status_code) in operation["responses"], what
        content = operation["responses"][str(answer.status_code)].get("content", {})
        if not answer.content:
            return
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in content, f"{what} is {kind}"
        if kind.endswith("json"):
            problem = next(self._validator(route.path_format, request.method, answer.status_code, kind)(answer), None)
            assert problem is None, f"{what}: {problem}"

    def check_data(self, name: str, data: Any) -> None:
        """Refuse an event's data that are not what the schema of that name says."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._whole["components"]}
        Draft202012Validator(schema).validate(data)

    def _made(self, path: str, method: str, status: int, kind: str) -> Any:
        schema = self._whole["paths"][path][method.lower()]["responses"][str(status)]["content"][kind]["schema"]
        validator = Draft202012Validator({**schema, "components": self._whole["components"]})
        return lambda answer: validator.iter_errors(answer.json())


_made: list[Described] = []


def described(app: FastAPI) -> Described:
    """A service's description. It says nothing of the service's settings, so it is the same for all."""
    if not _made:
        _made.append(Described(app))
    return _made[0]
