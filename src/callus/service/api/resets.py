"""Another password for whoever has lost theirs: an administrator makes a link, its owner uses it once."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from callus.service import audit
from callus.service.access import address_of, open_to_all
from callus.service.accounts import RESET_LASTS, begin_reset, end_reset
from callus.service.api.common import API, Administrator, Body, Number, Service
from callus.service.refusals import ForbiddenError
from callus.service.responses import refused
from callus.service.schemas.people import Chosen, ResetLink

router = APIRouter(prefix=API, tags=["accounts"])


class Choice(Body):
    """A password, by the link that allows it."""

    secret: Annotated[str, Field(max_length=1024, description="of the link")]
    password: Annotated[str, Field(max_length=1024, description="the password from now on")]


@router.post("/users/{number}/reset", status_code=201, responses=refused(404, 409))
def begin(number: Number, parts: Service, who: Administrator) -> ResetLink:
    """Take an account's password away: its logins end, and a secret lets its owner choose another, once."""
    if number == who.user.id:  # they would have locked themselves out, and there may be no other administrator
        raise ForbiddenError("this is your own account", hint="change your password instead")
    with parts.database.writing() as session:
        secret = begin_reset(session, number)
        audit.note(session, who=who.name, did="reset", what=f"password of user {number}", address=who.address)
    return {"secret": secret, "link": f"/#reset={secret}", "hours": round(RESET_LASTS.total_seconds() / 3600)}


@router.post("/reset", dependencies=[open_to_all()], responses=refused(403, 429))
def end(given: Choice, request: Request, parts: Service) -> Chosen:
    """Choose another password, by the link of an administrator."""
    address = address_of(request)
    parts.throttle.check("", address)
    user = end_reset(parts.database, given.secret, given.password, address=address)
    return {"name": user.name}
