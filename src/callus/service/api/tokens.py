"""Tokens for programs: everybody makes and revokes their own, an administrator those of all."""

from datetime import timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field

from callus.service import audit
from callus.service.access import Who
from callus.service.api.common import API, LARGEST_NUMBER, Body, Number, Person, Service
from callus.service.refusals import MissingError
from callus.service.responses import refused
from callus.service.roles import Scope, reaches
from callus.service.schemas.people import TokenMade, Tokens
from callus.service.schemas.running import Nothing
from callus.service.shown import token_whole
from callus.service.tables import Token, User, now
from callus.service.tokens import make_token

router = APIRouter(prefix=API, tags=["tokens"])


class NewToken(Body):
    """A token that is to be made."""

    name: Annotated[str, Field(min_length=1, max_length=60, description="what people call it")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4, description="what it may do")]
    days: Annotated[int | None, Field(ge=1, le=3650, description="days for which it works; null until revoked")] = None
    user: Annotated[int | None, Field(ge=1, le=LARGEST_NUMBER, description="whose it is; null for one's own")] = None


@router.get("/tokens")
def tokens(parts: Service, who: Person) -> Tokens:
    """One's own tokens; all of them for an administrator."""
    query = sa.select(Token, User.name).join(User, User.id == Token.user_id).order_by(Token.id)
    if not _all(who):
        query = query.where(Token.user_id == who.user.id)
    with parts.database.reading() as session:
        return {"tokens": [token_whole(token, name) for token, name in session.execute(query)]}


@router.post("/tokens", status_code=201, responses=refused(404))
def make(given: NewToken, parts: Service, who: Person) -> TokenMade:
    """Make a token; its secret is shown this once. An administrator may make one for another account."""
    owner = given.user or who.user.id
    with parts.database.writing() as session:
        user = session.get(User, owner)
        if user is None or (owner != who.user.id and not _all(who)):
            raise MissingError("there is no such account")
        lasts = None if given.days is None else timedelta(days=given.days)
        token, secret = make_token(session, owner, given.name, given.scopes, lasts)
        what = f"token {token.id} of user {owner}: {' '.join(token.scopes)}"
        audit.note(session, who=who.name, did="made", what=what, address=who.address)
        return {**token_whole(token, user.name), "secret": secret}


@router.delete("/tokens/{number}", responses=refused(404))
def revoke(number: Number, parts: Service, who: Person) -> Nothing:
    """Revoke a token."""
    with parts.database.writing() as session:
        token = session.get(Token, number)
        if token is None or (token.user_id != who.user.id and not _all(who)):
            raise MissingError("there is no such token")
        if token.revoked is None:
            token.revoked = now()
            audit.note(session, who=who.name, did="revoked", what=f"token {number}", address=who.address)
    return {}


def _all(who: Who) -> bool:
    return reaches(who.user.role, "administrator")
