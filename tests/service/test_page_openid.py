"""Logging in by the page at an identity provider; and the page's words where that does not let somebody in."""

from __future__ import annotations

from pathlib import Path

import pytest
from openid import CLIENT, SECRET, provider
from visit import DESK, PHONE, checked, started, visiting

from callus.service.settings import OpenIdConnect


@pytest.mark.slow
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_the_page_says_why_the_hospitals_account_opens_nothing(tmp_path: Path, tiny_bundle: Path, width: int) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with provider() as issuer:
        told = OpenIdConnect(issuer.address, CLIENT, str(tmp_path / "secret"))
        with (
            started(tmp_path / "data", tiny_bundle, openid=told) as service,
            visiting(service.address, width) as visit,
        ):
            page = visit.page
            page.context.route(f"{issuer.address}/**", lambda route: route.continue_())  # the one other place
            page.goto(service.address)
            link = page.get_by_role("link", name="Log in with the hospital's account")
            for error, claims, said in (
                ("access_denied", {}, "You did not log in at the hospital's login."),
                ("invalid_scope", {}, "The hospital's login refused."),
                ("", {"roles": ["nurse"]}, "Your hospital account has no role in callus."),
            ):
                issuer.error, issuer.claims = error, {"sub": "1", "preferred_username": "ada", **claims}
                link.click()
                page.get_by_role("alert").filter(has_text=said).wait_for()
                assert page.url == service.address  # loaded again it is not said again
                checked(visit)
            page.reload()
            link.wait_for()
            assert page.get_by_role("alert").count() == 0
            issuer.claims["roles"] = ["reader"]
            link.click()
            page.get_by_role("heading", name="Worklist").wait_for()
            visit.fine()
