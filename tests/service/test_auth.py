"""Accounts, logins, tokens, invitations, an identity provider, and guessing made slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from clinic import ON_SQLITE, Browser, Clinic, opened
from joserfc.jwk import ECKey, OctKey
from openid import CLIENT, SECRET, Provider, provider
from programs import free_port

from callus.service.accounts import accept, add_user, first_key
from callus.service.database import Database
from callus.service.passwords import hashed
from callus.service.refusals import ClashError, ForbiddenError, TooManyError, UnfitError
from callus.service.settings import OpenIdConnect, load_settings
from callus.service.tables import Entry, Once, Session, Token, User, now
from callus.service.throttle import FREE, Throttle

PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


def change(clinic: Clinic, table: type, **values: Any) -> None:
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(table).values(**values))


def test_the_first_link_works_until_there_is_an_administrator(database: Database) -> None:
    """Readers whom an identity provider lets in before do not lock the administrator out."""
    key = first_key(database)
    with database.writing() as session:
        add_user(session, "eve", "reader", subject="https://provider 1")
    assert key
    again = first_key(database)
    assert again, "there is nobody yet who could let others in"
    assert accept(database, again, "ada", PASSWORD, first=True, address="").role == "administrator"
    assert first_key(database) is None


def test_the_first_link_makes_the_administrator_once(database: Database) -> None:
    old, key = first_key(database), first_key(database)
    assert old
    assert key
    with pytest.raises(ForbiddenError, match="does not work"):
        accept(database, old, "mallory", PASSWORD, first=True, address="")
    with pytest.raises(ForbiddenError, match="does not work"):
        accept(database, key, "mallory", PASSWORD, first=False, address="")
    with pytest.raises(UnfitError, match="12 to 256 characters, this one has 5"):
        accept(database, key, "ada", "short", first=True, address="")

    outcomes: list[object] = []

    def join(name: str) -> None:
        try:
            outcomes.append(accept(database, key, name, PASSWORD, first=True, address="10.0.0.1").role)
        except ForbiddenError:
            outcomes.append(None)

    threads = [threading.Thread(target=join, args=(name,)) for name in ("ada", "eve", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(outcomes, key=str) == [None, None, "administrator"]
    assert first_key(database) is None
    with database.reading() as session:
        user = session.scalars(sa.select(User)).one()
        assert user.password.startswith("$argon2id$")
        assert PASSWORD not in user.password
        assert session.scalars(sa.select(Once)).all() == []


def test_an_invitation_makes_one_account_of_its_role(clinic: Clinic) -> None:
    made = clinic.administrator.post("/invitations", {"role": "radiologist"}).json()
    assert made["link"] == f"/#accept={made['secret']}"
    joined = Browser(clinic)
    given = {"secret": made["secret"], "name": "Ada Lovelace", "password": PASSWORD}
    assert joined.post("/first", given).status_code == 403
    assert joined.post("/accept", {**given, "name": "the READER"}).status_code == 409
    assert joined.post("/accept", {**given, "name": "<b>ada</b>"}).status_code == 422
    answer = joined.post("/accept", given)

    assert answer.json()["user"] == {"name": "Ada Lovelace", "role": "radiologist"}
    assert joined.get("/me").json()["name"] == "Ada Lovelace"
    assert Browser(clinic).post("/accept", {**given, "name": "eve"}).status_code == 403
    late = clinic.administrator.post("/invitations", {"role": "reader", "days": 1}).json()
    change(clinic, Once, ends=now() - timedelta(seconds=1))
    assert Browser(clinic).post("/accept", {**given, "secret": late["secret"], "name": "bob"}).status_code == 403


def test_logging_in_and_out(clinic: Clinic) -> None:
    clinic.add("ada", "reader", hashed(PASSWORD))
    browser = Browser(clinic)
    assert browser.get("/me").status_code == 401
    wrong = [browser.log_in("ada", "wrong"), browser.log_in("nobody", PASSWORD), browser.log_in("the reader", "")]
    assert {answer.status_code for answer in wrong} == {401}
    assert len({answer.text for answer in wrong}) == 1  # it is not told which of the two is wrong

    answer = browser.log_in("ada", PASSWORD)

    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie  # over plain HTTP on loopback a browser would drop it
    assert browser.get("/me").json()["csrf"] == answer.json()["csrf"]
    secret = browser.cookie
    with clinic.parts.database.reading() as session:
        assert secret not in str(session.execute(sa.text("SELECT * FROM sessions")).all())
    out = browser.post("/logout")
    assert out.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert Browser(clinic, cookie=secret).get("/me").status_code == 401
    did = [entry.did for entry in clinic.rows(Entry)]
    assert did == ["failed to log in"] * 3 + ["logged in", "logged out"]
    assert [entry.who for entry in clinic.rows(Entry)][1] == "nobody"


def test_behind_tls_the_cookie_is_secure(tmp_path: Path, tiny_bundle: Path) -> None:
    with opened(tmp_path / "data", tiny_bundle, address="https://callus.test") as clinic:
        clinic.add("ada", "reader", hashed(PASSWORD))
        answer = Browser(clinic).log_in("ada", PASSWORD)
        assert "Secure" in answer.headers["Set-Cookie"]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")


def test_a_login_is_always_a_new_session(clinic: Clinic) -> None:
    clinic.add("ada", "reader", hashed(PASSWORD))
    fixed = Browser(clinic, cookie="chosen-by-mallory")
    fixed.log_in("ada", PASSWORD)
    first = fixed.cookie
    assert first != "chosen-by-mallory"
    assert Browser(clinic, cookie="chosen-by-mallory").get("/me").status_code == 401
    fixed.log_in("ada", PASSWORD)
    assert fixed.cookie != first


@pytest.mark.parametrize("column", ["used", "ends"])
def test_a_session_ends_by_itself(clinic: Clinic, column: str) -> None:
    assert clinic.reader.get("/me").status_code == 200
    change(clinic, Session, **{column: now() - timedelta(hours=2, seconds=1)})
    assert clinic.reader.get("/me").status_code == 401


def test_a_use_keeps_a_session(clinic: Clinic) -> None:
    change(clinic, Session, used=now() - timedelta(hours=1))
    assert clinic.reader.get("/me").status_code == 200
    assert max(session.used for session in clinic.rows(Session)) > now() - timedelta(minutes=1)


def test_changing_the_password_ends_other_logins(clinic: Clinic) -> None:
    user = clinic.add("ada", "reader", hashed(PASSWORD))
    here, there = clinic.browser(user), clinic.browser(user)
    assert here.post("/me/password", {"old": "wrong", "new": "another horse"}).status_code == 401
    assert here.post("/me/password", {"old": PASSWORD, "new": "another horse"}).status_code == 200
    assert here.get("/me").status_code == 200
    assert there.get("/me").status_code == 401
    assert Browser(clinic).log_in("ada", PASSWORD).status_code == 401
    assert Browser(clinic).log_in("ada", "another horse").status_code == 200


def test_roles_and_disabling_hold_at_once(clinic: Clinic) -> None:
    reader = clinic.users["reader"]
    program = clinic.program("reader", "read")
    assert program.get("/studies").status_code == 200
    clinic.administrator.patch(f"/users/{reader.id}", {"role": "radiologist"})
    assert clinic.reader.get("/me").json()["role"] == "radiologist"
    assert clinic.administrator.patch(f"/users/{reader.id}", {"disabled": True}).json()["disabled"]
    assert clinic.reader.get("/me").status_code == 401
    assert program.get("/studies").status_code == 401
    admin = clinic.users["administrator"]
    for given in ({"role": "reader"}, {"disabled": True}):
        assert clinic.administrator.patch(f"/users/{admin.id}", given).status_code == 403
    assert clinic.administrator.get("/me").json()["role"] == "administrator"
    assert clinic.administrator.patch("/users/99", {"disabled": True}).status_code == 404


def test_a_token_does_what_its_scopes_and_its_owner_may(clinic: Clinic) -> None:
    made = clinic.radiologist.post("/tokens", {"name": "robot", "scopes": ["read"]}).json()
    robot = Browser(clinic, token=made["secret"])

    assert robot.get("/studies").status_code == 200
    assert robot.send(b"x").status_code == 403
    assert robot.get("/tokens").status_code == 403  # tokens make no tokens
    assert robot.post("/logout").status_code == 403
    with clinic.parts.database.reading() as session:
        assert made["secret"] not in str(session.execute(sa.text("SELECT * FROM tokens")).all())
    assert "secret" not in clinic.radiologist.get("/tokens").json()["tokens"][0]
    weak = clinic.program("reader", "administer", "verdict")
    assert weak.get("/users").status_code == 403
    assert weak.get("/studies").status_code == 403
    assert clinic.reader.delete(f"/tokens/{made['id']}").status_code == 404  # another's
    assert clinic.radiologist.delete(f"/tokens/{made['id']}").status_code == 200
    assert robot.get("/studies").status_code == 401
    for token in ("", "callus_x", "\u00e4"):
        headers = {"Authorization": f"Bearer {token}".encode()}
        assert clinic.nobody.get("/studies", headers=headers).status_code == 401
    assert clinic.reader.get("/studies", headers={"Authorization": "Basic eDp4"}).status_code == 401


def test_a_token_ends_and_acts_for_the_account_it_was_made_for(clinic: Clinic) -> None:
    owner = clinic.users["reader"].id
    asked = {"name": "robot", "scopes": ["read", "administer"], "days": 1, "user": owner}
    assert clinic.radiologist.post("/tokens", asked).status_code == 404
    made = clinic.administrator.post("/tokens", asked).json()
    robot = Browser(clinic, token=made["secret"])
    assert robot.get("/me").json()["role"] == "reader"
    assert robot.get("/users").status_code == 403
    assert [token["id"] for token in clinic.reader.get("/tokens").json()["tokens"]] == [made["id"]]
    change(clinic, Token, ends=now() - timedelta(seconds=1))
    assert robot.get("/me").status_code == 401


@ON_SQLITE
def test_guessing_is_made_slow(clinic: Clinic) -> None:
    clinic.add("ada", "reader", hashed(PASSWORD))
    browser = Browser(clinic)
    for _ in range(FREE["pair"]):
        assert browser.log_in("ada", "wrong").status_code == 401
    refused = browser.log_in("ada", PASSWORD)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    clinic.add("bob", "reader", hashed(PASSWORD))
    assert browser.log_in("bob", PASSWORD).status_code == 200


def test_the_throttle_counts_pairs_accounts_and_addresses() -> None:
    at = [0.0]
    throttle = Throttle(lambda: at[0])

    def waits(account: str, address: str) -> int:
        try:
            throttle.check(account, address)
        except TooManyError as error:
            return error.retry_after or 0
        return 0

    for _ in range(FREE["pair"]):
        throttle.failed("Ada", "10.0.0.1")
    assert (waits("ada", "10.0.0.1"), waits("ada", "10.0.0.2"), waits("bob", "10.0.0.1")) == (5, 0, 0)
    at[0] = 6
    assert waits("ada", "10.0.0.1") == 0
    throttle.failed("ada", "10.0.0.1")
    assert waits("ada", "10.0.0.1") == 10
    throttle.succeeded("ada", "10.0.0.1")
    assert waits("ada", "10.0.0.1") == 0
    for number in range(FREE["address"]):
        throttle.failed(f"user{number}", "10.0.0.9")
    assert waits("anybody", "10.0.0.9") > 0
    for number in range(FREE["account"]):
        throttle.failed("eve", f"10.1.0.{number}")
    assert waits("eve", "10.2.0.1") > 0
    at[0] += 10_000
    assert waits("eve", "10.2.0.1") == 0


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def joined(database: Database, tmp_path: Path, tiny_bundle: Path, issuer: Provider) -> Iterator[Clinic]:
    (tmp_path / "secret").write_text(SECRET + "\n")
    told = OpenIdConnect(issuer.address, CLIENT, str(tmp_path / "secret"))
    issuer.claims = {"sub": "1", "preferred_username": "ada", "roles": ["reader", "radiologist", "other"]}
    issuer.lies, issuer.elsewhere, issuer.error, issuer.signing = {}, {}, "", issuer.key
    with opened(tmp_path / "data", tiny_bundle, database, openid=told) as clinic:
        yield clinic


def log_in_there(browser: Browser, **changed: str) -> httpx.Response:
    """Go to the provider and come back."""
    sent = browser.get("/login/openid")
    assert sent.status_code == 302, sent.text
    assert "SameSite=lax" in sent.headers["Set-Cookie"]
    assert "HttpOnly" in sent.headers["Set-Cookie"]
    back = httpx.get(sent.headers["Location"], follow_redirects=False).headers["Location"]
    query = dict(httpx.URL(back).params) | changed
    assert httpx.URL(back).path == "/api/v1/login/openid/return"
    return browser.get("/login/openid/return", params=query)


def refused_there(browser: Browser, **changed: str) -> str:
    """Go to the provider and come back to the page, not let in: its word for why."""
    answer = log_in_there(browser, **changed)
    assert answer.status_code == 302
    assert 'callus_openid=""' in answer.headers["Set-Cookie"]
    assert browser.get("/me").status_code == 401
    place, _, why = answer.headers["Location"].partition("#login=")
    assert place == "/"
    return why


def test_logging_in_at_an_identity_provider(joined: Clinic, issuer: Provider) -> None:
    browser = Browser(joined)
    answer = log_in_there(browser)

    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert browser.get("/me").json()["role"] == "radiologist"
    assert browser.get("/me").json()["name"] == "ada"
    (user,) = joined.rows(User, User.subject.is_not(None))
    assert user.password == ""
    assert Browser(joined).log_in("ada", "").status_code == 401
    issuer.claims["roles"] = "reader"
    again = Browser(joined)
    log_in_there(again)
    assert again.get("/me").json()["role"] == "reader"
    assert len(joined.rows(User, User.subject.is_not(None))) == 1
    issuer.claims |= {"sub": "2", "preferred_username": "ada"}
    other = Browser(joined)
    log_in_there(other)
    assert other.get("/me").json()["name"] == "ada 2"
    change(joined, User, disabled=True)
    assert refused_there(Browser(joined)) == "disabled"


@pytest.mark.parametrize(
    "lies",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "1\x00"},
        {"sub": "1" * 256},
    ],
)
@ON_SQLITE
def test_an_id_token_that_lies_is_refused(joined: Clinic, issuer: Provider, lies: dict) -> None:
    issuer.lies = lies
    assert refused_there(Browser(joined)) == "unfit"


@pytest.mark.parametrize("kind", ["another key", "the secret"])
@ON_SQLITE
def test_an_id_token_of_another_signature_is_refused(joined: Clinic, issuer: Provider, kind: str) -> None:
    another = ECKey.generate_key("P-256", parameters={"kid": "1", "alg": "ES256"})
    issuer.signing = another if kind == "another key" else OctKey.import_key(SECRET + "x" * 32)
    assert refused_there(Browser(joined)) == "unfit"


def test_a_login_that_was_begun_elsewhere_is_refused(joined: Clinic) -> None:
    assert refused_there(Browser(joined), state="another") == "late"
    assert refused_there(Browser(joined), code="another") == "unfit"
    browser = Browser(joined)
    sent = browser.get("/login/openid")
    back = httpx.get(sent.headers["Location"], follow_redirects=False).headers["Location"]
    query = dict(httpx.URL(back).params)
    places = [
        one.get("/login/openid/return", params=query).headers["Location"] for one in (Browser(joined), browser, browser)
    ]
    assert places == ["/#login=late", "/", "/#login=late"]  # another browser, this one, and twice


@pytest.mark.parametrize("roles", [["nurse"], [], "", None, 7, [{"reader": "radiologist"}], {"reader": 1}])
@ON_SQLITE
def test_without_a_role_nobody_comes_in(joined: Clinic, issuer: Provider, roles: Any) -> None:
    issuer.claims["roles"] = roles
    assert refused_there(Browser(joined)) == "role"
    assert joined.rows(User, User.subject.is_not(None)) == []


@pytest.mark.parametrize(
    ("error", "why"), [("access_denied", "cancelled"), ("invalid_scope", "refused"), ("a\r\nb" * 99, "refused")]
)
@ON_SQLITE
def test_whom_the_provider_does_not_let_in_comes_back_to_the_page(
    joined: Clinic, issuer: Provider, caplog: pytest.LogCaptureFixture, error: str, why: str
) -> None:
    issuer.error = error
    assert refused_there(Browser(joined)) == why
    assert f"lets nobody in: {' '.join(error.split())[:40]}" in caplog.text


@pytest.fixture
def by_groups(database: Database, tmp_path: Path, tiny_bundle: Path, issuer: Provider) -> Iterator[Clinic]:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "clinic.toml").write_text(
        f"""
        [openid]
        issuer = "{issuer.address}"
        client_id = "{CLIENT}"
        client_secret_file = "{tmp_path / "secret"}"
        role_claim = "realm.groups"
        scopes = ["openid", "profile", "groups"]
        [openid.roles]
        "CN=Radiology,DC=clinic" = "radiologist"
        "3f2c-77" = "administrator"
        """
    )
    told = load_settings(tmp_path / "clinic.toml", data=tmp_path).openid
    issuer.claims, issuer.lies, issuer.elsewhere, issuer.error = {"sub": "1"}, {}, {}, ""
    issuer.signing = issuer.key
    with opened(tmp_path / "data", tiny_bundle, database, openid=told) as clinic:
        yield clinic


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["staff", "CN=Radiology,DC=clinic"], "radiologist"),
        (["CN=Radiology,DC=clinic", "3f2c-77"], "administrator"),
        ("3f2c-77", "administrator"),
        (["administrator"], None),  # a group of that name there is no role here
    ],
)
@pytest.mark.parametrize("in_token", [True, False])
@ON_SQLITE
def test_groups_mean_roles_wherever_the_provider_tells_them(
    by_groups: Clinic, issuer: Provider, groups: Any, role: str | None, in_token: bool
) -> None:
    told = {"realm": {"groups": groups}, "preferred_username": "ada"}
    (issuer.claims if in_token else issuer.elsewhere).update(told)
    browser = Browser(by_groups)
    if role is None:
        assert refused_there(browser) == "role"
        return
    assert log_in_there(browser).headers["Location"] == "/"
    assert issuer.scopes == "openid profile groups"
    assert (browser.get("/me").json()["role"], browser.get("/me").json()["name"]) == (role, "ada")


@ON_SQLITE
def test_groups_of_the_user_info_are_found_beside_other_claims_of_that_name(
    by_groups: Clinic, issuer: Provider
) -> None:
    issuer.claims |= {"realm": {"name": "clinic"}, "preferred_username": "ada"}
    issuer.elsewhere = {"realm": {"groups": ["3f2c-77"]}, "preferred_username": "another"}
    browser = Browser(by_groups)
    assert log_in_there(browser).headers["Location"] == "/"
    assert (browser.get("/me").json()["role"], browser.get("/me").json()["name"]) == ("administrator", "ada")


@pytest.mark.parametrize("elsewhere", [{"sub": "another"}, {"sub": None}])
@ON_SQLITE
def test_what_is_told_of_somebody_else_is_not_believed(by_groups: Clinic, issuer: Provider, elsewhere: Any) -> None:
    issuer.elsewhere = {"realm": {"groups": ["3f2c-77"]}, **elsewhere}
    assert refused_there(Browser(by_groups)) == "role"


def test_a_provider_that_does_not_answer_is_told_on_the_page(tmp_path: Path, tiny_bundle: Path) -> None:
    told = OpenIdConnect(f"http://127.0.0.1:{free_port()}", CLIENT)
    with opened(tmp_path / "data", tiny_bundle, openid=told) as clinic:
        answer = clinic.nobody.get("/login/openid")
        assert (answer.status_code, answer.headers["Location"]) == (302, "/#login=away")


@ON_SQLITE
def test_without_a_provider_there_is_no_such_login(clinic: Clinic) -> None:
    assert clinic.nobody.get("/login/openid").status_code == 404


@pytest.mark.parametrize(("name", "other"), [("Ada", "aDA"), ("Änne", "änne"), ("Änne", "Änne")])
def test_names_are_taken_once_whatever_their_case(database: Database, name: str, other: str) -> None:
    key = first_key(database) or ""
    accept(database, key, name, PASSWORD, first=True, address="")
    with pytest.raises(ClashError), database.writing() as session:
        add_user(session, other, "reader")
