"""The API's description (OpenAPI): FastAPI's, and what each route refuses by its rule and by what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from callus.service.access import COOKIE, CSRF_HEADER, SAFE, Rule
from callus.service.responses import PLACE, reference, refused
from callus.service.roles import ROLES
from callus.service.schemas.sending import Refusal, StoreAnswer
from callus.service.schemas.studies import Finding, StudyChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

# Of events and of application/dicom+json, where FastAPI sees no schema.
_MORE: Final = (Finding, StudyChanged, StoreAnswer)
_NOT_OURS: Final = ("HTTPValidationError", "ValidationError")  # FastAPI's errors; this service tells them its own way

_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A program's token, made in the page; what it may do is its scopes', within its owner's role.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A login's: POST /api/v1/login.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "Beside the cookie, where something is changed: csrf of the login's answer, or of /api/v1/me.",
    },
}


def complete(described: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Complete FastAPI's description, in its place.

    Args:
        described: what it made of the routes.
        routes: the application's.
    """
    schemas = described["components"]["schemas"]
    for model in _MORE:
        schema = TypeAdapter(model).json_schema(ref_template=PLACE)
        for name, inner in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            schemas.setdefault(name, inner)
    for name in _NOT_OURS:
        schemas.pop(name, None)
    described["components"]["securitySchemes"] = _SCHEMES
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = described["paths"][route.path_format][method.lower()]
                rules = rules_of(route)
                _add_refusals(operation, method, rules)
                _add_security(operation, method, rules)


def rules_of(route: APIRoute) -> list[Rule]:
    """A route's rules; there is to be one."""
    found, waiting = [], list(route.dependant.dependencies)
    while waiting:
        one = waiting.pop()
        waiting += one.dependencies
        if isinstance(one.call, Rule):
            found.append(one.call)
    return found


def _add_refusals(operation: dict[str, Any], method: str, rules: list[Rule]) -> None:
    statuses = {500, 503, 507}  # to look at a study is written down, too
    for rule in rules:
        if rule.role is not None:
            statuses |= {401, 403}
        elif method not in SAFE:
            statuses.add(403)
    if "requestBody" in operation:
        statuses |= {400, 408, 413, 422}
    if "parameters" in operation:
        statuses.add(422)
    answers = operation["responses"]
    for status, answer in refused(*statuses).items():
        del answer["model"]
        answer["content"] = {"application/json": {"schema": reference(Refusal)}}
        if str(status) not in answers or _is_not_ours(answers[str(status)]):
            answers[str(status)] = answer
    operation["responses"] = dict(sorted(answers.items()))


def _add_security(operation: dict[str, Any], method: str, rules: list[Rule]) -> None:
    """What a request has to bring: a program its token, a browser its cookie and what shows that its page asks."""
    needed: list[dict[str, list[str]]] = []
    said = "Open to everybody."
    for rule in rules:
        if rule.role is None:
            continue
        cookie: dict[str, list[str]] = {"cookie": []} if method in SAFE else {"cookie": [], "csrf": []}
        least = f"For the role {rule.role}" + ("" if rule.role == ROLES[-1] else ", or one above it")
        if rule.scope is None:
            needed, said = [cookie], f"{least}; not for tokens."
        else:
            needed, said = [{"bearer": [rule.scope]}, cookie], f"{least}; a token needs the scope {rule.scope}."
        if rule.on_loopback:
            needed.append({})
            said += " On the service's own machine it is open, where no proxy is in front."
    operation["security"] = needed
    operation["description"] = "\n\n".join(part for part in (operation.get("description", ""), said) if part)


def _is_not_ours(answer: dict[str, Any]) -> bool:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return any(schema.get("$ref") == PLACE.format(model=name) for name in _NOT_OURS)
