"""Who may do what: roles for people, scopes for the tokens of programs."""

from __future__ import annotations

from typing import Final, Literal, get_args

Role = Literal["reader", "radiologist", "administrator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what the one before it may, and more."""
Scope = Literal["read", "send", "verdict", "administer"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What a token may do, within its owner's role."""


def reaches(role: str, least: Role) -> bool:
    """Whether a role is another one or above it."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(least)
