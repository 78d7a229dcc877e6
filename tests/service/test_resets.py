"""A password that was lost: an administrator takes it away, its owner chooses another by a link that works once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clinic import Browser, Clinic

from callus.service import accounts
from callus.service.accounts import add_user, begin_reset, check_password, end_reset
from callus.service.database import Database
from callus.service.objects import ObjectStore
from callus.service.passwords import hashed
from callus.service.recovery import reset_password
from callus.service.refusals import ClashError, ForbiddenError, MissingError, UnknownCallerError
from callus.service.settings import Settings
from callus.service.tables import Entry, Reset, User, now
from callus.service.tables import Session as Login
from callus.service.throttle import Throttle

OLD, NEW = "correct horse battery", "another horse entirely"


@pytest.fixture
def ada(clinic: Clinic) -> User:
    return clinic.add("ada", "radiologist", hashed(OLD))


def link(clinic: Clinic, user: User) -> dict[str, Any]:
    answer = clinic.administrator.post(f"/users/{user.id}/reset")
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_reset_ends_the_old_password_at_once_and_its_link_makes_another_once(clinic: Clinic, ada: User) -> None:
    there = clinic.browser(ada)
    made = link(clinic, ada)
    assert made["link"] == f"/#reset={made['secret']}"
    assert made["hours"] == 24
    assert there.get("/me").status_code == 401
    assert Browser(clinic).log_in("ada", OLD).status_code == 401
    with clinic.parts.database.reading() as session:
        assert made["secret"] not in str(session.execute(sa.text("SELECT * FROM resets")).all())

    given = {"secret": made["secret"], "password": NEW}
    short = clinic.nobody.post("/reset", given | {"password": "short"})
    assert (short.status_code, "12 to 256" in short.text) == (422, True)
    assert clinic.nobody.post("/reset", given).json() == {"name": "ada"}

    assert clinic.nobody.post("/reset", given).status_code == 403
    assert Browser(clinic).log_in("ada", NEW).status_code == 200
    told = [(entry.who, entry.did, entry.what) for entry in clinic.rows(Entry) if entry.did in ("reset", "changed")]
    assert told == [
        ("the administrator", "reset", f"password of user {ada.id}"),
        ("ada", "changed", f"password of user {ada.id} by a link"),
    ]


def test_only_the_last_link_works_and_not_for_ever(clinic: Clinic, ada: User) -> None:
    first, second = link(clinic, ada), link(clinic, ada)
    assert clinic.nobody.post("/reset", {"secret": first["secret"], "password": NEW}).status_code == 403
    clinic.administrator.patch(f"/users/{ada.id}", {"disabled": True})
    given = {"secret": second["secret"], "password": NEW}
    assert clinic.nobody.post("/reset", given).status_code == 403  # who is shut out does not come in by it
    assert clinic.administrator.post(f"/users/{ada.id}/reset").status_code == 409
    clinic.administrator.patch(f"/users/{ada.id}", {"disabled": False})
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(Reset).values(ends=now() - timedelta(seconds=1)))
    assert clinic.nobody.post("/reset", given).status_code == 403
    assert Browser(clinic).log_in("ada", NEW).status_code == 401


def test_a_link_is_for_what_it_was_made_for(clinic: Clinic, ada: User) -> None:
    made = link(clinic, ada)
    joining = {"secret": made["secret"], "name": "mallory", "password": NEW}
    assert clinic.nobody.post("/accept", joining).status_code == 403
    assert clinic.nobody.post("/first", joining).status_code == 403
    invited = clinic.administrator.post("/invitations", {"role": "reader"}).json()
    assert clinic.nobody.post("/reset", {"secret": invited["secret"], "password": NEW}).status_code == 403


def test_whose_password_cannot_be_reset(clinic: Clinic) -> None:
    own = clinic.administrator.post(f"/users/{clinic.users['administrator'].id}/reset")
    assert own.status_code == 403
    assert clinic.administrator.get("/me").status_code == 200
    assert clinic.administrator.post("/users/99/reset").status_code == 404
    elsewhere = clinic.users["reader"]
    with clinic.parts.database.writing() as session:
        session.execute(sa.update(User).where(User.id == elsewhere.id).values(subject="https://login.example 1"))
    assert clinic.administrator.post(f"/users/{elsewhere.id}/reset").status_code == 409
    assert clinic.reader.get("/me").status_code == 200


@pytest.fixture
def _reset_amid(clinic: Clinic, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ada's password is taken away just when it was found to be right, once."""
    fits, done = accounts.fits, []

    def meanwhile(kept: str, password: str) -> bool:
        right = fits(kept, password)
        if right and not done:
            done.append(right)
            with clinic.parts.database.writing() as session:
                begin_reset(session, ada.id)
        return right

    monkeypatch.setattr(accounts, "fits", meanwhile)


@pytest.mark.usefixtures("_reset_amid")
def test_a_login_that_was_under_way_does_not_outlive_a_reset(clinic: Clinic, ada: User) -> None:
    assert Browser(clinic).log_in("ada", OLD).status_code == 401
    assert clinic.rows(Login, Login.user_id == ada.id) == []


def test_a_password_that_was_being_changed_does_not_undo_a_reset(
    clinic: Clinic, ada: User, request: pytest.FixtureRequest
) -> None:
    there = clinic.browser(ada)
    request.getfixturevalue("_reset_amid")
    assert there.post("/me/password", {"old": OLD, "new": NEW}).status_code == 401
    (user,) = clinic.rows(User, User.id == ada.id)
    assert user.password == ""
    assert Browser(clinic).log_in("ada", NEW).status_code == 401


def test_an_administrator_who_waits_for_a_link_is_not_the_last(clinic: Clinic) -> None:
    other = clinic.add("second", "administrator", hashed(OLD))
    assert link(clinic, other)
    own = clinic.users["administrator"].id
    refused = clinic.administrator.patch(f"/users/{own}", {"role": "reader"})
    assert (refused.status_code, "nobody would be administrator" in refused.text) == (403, True)


def test_a_link_that_two_use_at_once_works_for_one(database: Database) -> None:
    with database.writing() as session:
        user = User(name="ada", role="reader", password=hashed(OLD))
        session.add(user)
        session.flush()
        key = begin_reset(session, user.id)
    outcomes: list[bool] = []

    def choose(number: int) -> None:
        try:
            end_reset(database, key, f"{NEW} {number}", address="10.0.0.1")
            outcomes.append(True)
        except ForbiddenError:
            outcomes.append(False)

    threads = [threading.Thread(target=choose, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(outcomes) == [False, False, True]


@pytest.fixture
def lost(database: Database, tmp_path: Path) -> Settings:
    """A service whose only administrator has lost their password."""
    ObjectStore(tmp_path / "objects", keep_free=0)
    with database.writing() as session:
        add_user(session, "Ada", "administrator", password=hashed(OLD))
    url = "" if database.is_sqlite else database.engine.url.render_as_string(hide_password=False)
    return Settings(tmp_path, database=url)


def test_the_only_administrator_comes_back_in_by_the_machine_itself(lost: Settings, database: Database) -> None:
    old, key = reset_password(lost, "ada"), reset_password(lost, "ADA")
    with pytest.raises(UnknownCallerError):
        check_password(database, Throttle(), "Ada", OLD, "")
    with pytest.raises(ForbiddenError):
        end_reset(database, old, NEW, address="")
    assert end_reset(database, key, NEW, address="10.0.0.1").role == "administrator"
    assert check_password(database, Throttle(), "Ada", NEW, "").name == "Ada"
    with database.reading() as session:
        lines = [(entry.who, entry.did, entry.what) for entry in session.scalars(sa.select(Entry).order_by(Entry.id))]
    assert lines[0][1:] == ("reset", "password of user 1")
    assert lines[0][0].endswith("at the command line")


def test_an_account_is_found_by_its_name_in_either_case_whatever_its_letters(
    lost: Settings, database: Database
) -> None:
    with database.writing() as session:
        add_user(session, "Änne", "administrator")
    assert end_reset(database, reset_password(lost, "äNNE"), NEW, address="").name == "Änne"


def test_who_cannot_be_helped_by_the_machine_is_told_why(lost: Settings, database: Database, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no account of that name; administrators are: Ada"):
        reset_password(lost, "eve")
    with database.writing() as session:
        add_user(session, "bob", "administrator", subject="https://login.example 1")
    with pytest.raises(ClashError, match="at the identity provider"):
        reset_password(lost, "bob")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="no service in"):
        reset_password(Settings(tmp_path / "empty", database=lost.database), "Ada")
    with database.reading() as session:
        assert session.scalars(sa.select(Reset)).all() == []


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder that others may look into; pytest's they may not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o755, 0o700])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_cannot_write_the_folder_cannot_take_a_password_away(shown: Path, mode: int) -> None:
    ObjectStore(shown / "objects", keep_free=0)
    database = Database(f"sqlite:///{shown / 'callus.sqlite'}")
    with database.writing() as session:
        add_user(session, "Ada", "administrator", password=hashed(OLD))
    shown.chmod(mode)
    code = "import os, sys; from callus.cli import main; import callus.service.recovery; os.setgid(65534); "
    code += f"os.setuid(65534); sys.argv = ['callus', 'password', 'Ada', '--data', {str(shown)!r}]; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert "cannot be written; do this as the service's own user" in done.stderr
    assert check_password(database, Throttle(), "Ada", OLD, "").name == "Ada"
    database.close()


def test_the_command_line_prints_the_link(lost: Settings, database: Database) -> None:
    line = [sys.executable, "-m", "callus", "password", "ada", "--data", str(lost.data)]
    line += ["--database", lost.database] if lost.database else []
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    key = done.stdout.rpartition("/#reset=")[2].strip()
    assert end_reset(database, key, NEW, address="").name == "Ada"
    nobody = subprocess.run([*line[:4], "eve", *line[5:]], capture_output=True, text=True, check=False, timeout=180)
    assert (nobody.returncode, nobody.stderr.count("\n")) == (2, 1)
