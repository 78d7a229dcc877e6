"""The API's description (OpenAPI): FastAPI's, and what each route refuses by its rule and by what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from callus.service.access import SAFE, Rule
from callus.service.responses import PLACE, reference, refused
from callus.service.schemas.sending import Refusal, StoreAnswer
from callus.service.schemas.studies import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

_MORE: Final = (Finding, StoreAnswer)  # of events and of application/dicom+json, where FastAPI sees no schema
_NOT_OURS: Final = ("HTTPValidationError", "ValidationError")  # FastAPI's errors; this service tells them its own way


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
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = described["paths"][route.path_format][method.lower()]
                _add_refusals(operation, method, rules_of(route))


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
    statuses = {500}
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


def _is_not_ours(answer: dict[str, Any]) -> bool:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return any(schema.get("$ref") == PLACE.format(model=name) for name in _NOT_OURS)
