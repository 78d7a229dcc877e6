"""Accounts and invitations, and the audit log."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from callus.service import audit
from callus.service.accounts import change_user, invite
from callus.service.api.common import API, LARGEST_NUMBER, Administrator, Body, Number, Service
from callus.service.responses import refused
from callus.service.roles import Role
from callus.service.schemas.people import AuditLog, Invited, Users, UserWhole
from callus.service.shown import user_whole
from callus.service.tables import User

router = APIRouter(prefix=API, tags=["accounts"])
_LOG: dict[int | str, dict[str, Any]] = {
    200: {"model": AuditLog, "description": "the lines", "content": {"text/csv": {"schema": {"type": "string"}}}}
}


class Invitation(Body):
    """An account that somebody is to make."""

    role: Annotated[Role, Field(description="what the account may do")]
    days: Annotated[int, Field(ge=1, le=30, description="days for which the invitation works")] = 7


class Change(Body):
    """What is to be another way."""

    role: Annotated[Role | None, Field(description="what it may do from now on; null leaves it")] = None
    disabled: Annotated[bool | None, Field(description="whether nobody can log in to it; null leaves it")] = None


@router.get("/users")
def users(parts: Service, _who: Administrator) -> Users:
    """All accounts."""
    with parts.database.reading() as session:
        return {"users": [user_whole(user) for user in session.scalars(sa.select(User).order_by(User.name))]}


@router.post("/invitations", status_code=201)
def invitation(given: Invitation, parts: Service, who: Administrator) -> Invited:
    """Invite somebody: a secret by which one account can be made. The page's link is ``/#accept=SECRET``."""
    with parts.database.writing() as session:
        secret = invite(session, given.role, timedelta(days=given.days))
        audit.note(session, who=who.name, did="invited", what=given.role, address=who.address)
    return {"secret": secret, "link": f"/#accept={secret}", "days": given.days}


@router.patch("/users/{number}", responses=refused(404))
def change(number: Number, given: Change, parts: Service, who: Administrator) -> UserWhole:
    """Change an account's role, or disable it; its logins and tokens then work no more."""
    with parts.database.writing() as session:
        user = change_user(session, number, role=given.role, disabled=given.disabled)
        what = f"user {number} {user.role}{' disabled' if user.disabled else ''}"
        audit.note(session, who=who.name, did="changed", what=what, address=who.address)
        return user_whole(user)


@router.get("/audit", response_class=StreamingResponse, responses=_LOG)
def log(
    parts: Service,
    _who: Administrator,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
    limit: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> Response:
    """The audit log, the oldest line first."""
    found = audit.lines(parts.database, after, limit)
    if form == "json":
        return StreamingResponse(audit.as_json(found), media_type="application/json")
    headers = {"Content-Disposition": 'attachment; filename="callus-audit.csv"'}
    return StreamingResponse(audit.as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)
