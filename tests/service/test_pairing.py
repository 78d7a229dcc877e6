"""A database goes with one data folder: no other service takes its jobs, and no folder loses its radiographs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from clinic import picture
from served import line_of
from typer.testing import CliRunner

from callus.cli import app
from callus.service.backup import BackupError, back_up, restore
from callus.service.copying import ELSEWHERE, NAMED, name_in
from callus.service.database import Database
from callus.service.intake import Taken
from callus.service.pairing import PairingError, open_pair
from callus.service.recovery import reset_password
from callus.service.serving import build
from callus.service.settings import Settings
from callus.service.tables import Image, Job, Pair


@pytest.fixture
def url(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


@pytest.fixture
def serve(tiny_bundle: Path) -> Callable[..., Taken | None]:
    """Starts a service; it may take a radiograph before it ends."""

    def start(folder: Path, url: str = "", *, taking: bytes = b"") -> Taken | None:
        parts = build(Settings(folder, str(tiny_bundle), database=url, keep_free=0), threads=1)
        try:
            return parts.intake.take(taking, source="upload", sender="ada") if taking else None
        finally:
            parts.close()

    return start


def files(folder: Path) -> int:
    return len(list((folder / "objects").glob("??/*")))


@pytest.mark.parametrize("used", [False, True])
def test_another_folder_is_refused(
    database: Database, url: str, serve: Callable[..., Taken | None], tmp_path: Path, *, used: bool
) -> None:
    serve(tmp_path / "one", url, taking=picture())
    if used:
        serve(tmp_path / "two")
    with pytest.raises(PairingError, match="another folder's; give that folder"):
        serve(tmp_path / "two", url)
    with database.reading() as session:
        (job,) = session.scalars(sa.select(Job))
    assert (job.state, job.attempts) == ("waiting", 0)
    assert not (tmp_path / "two" / ELSEWHERE).exists()
    serve(tmp_path / "one", url)
    serve(tmp_path / "two")  # with a database of its own


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that has no tables yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.sqlite'}"
        return
    with request.getfixturevalue("on_postgresql")() as url:
        yield url


def test_of_three_that_begin_at_once_one_has_the_database(new: str, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from callus.service import pairing; print('ready', flush=True); sys.stdin.readline()\n"
        "try: pairing.open_pair(pathlib.Path(sys.argv[1]), sys.argv[2], begins=True).close()\n"
        "except pairing.PairingError: print('refused')"
    )
    folders = [tmp_path / str(number) for number in range(3)]
    with ExitStack() as ending:
        begun = list[subprocess.Popen[str]]()
        for folder in folders:
            folder.mkdir()
            line = [sys.executable, "-c", code, str(folder), new]
            pipe = subprocess.PIPE
            begun.append(ending.enter_context(subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True)))
        assert [line_of(process) for process in begun] == ["ready\n"] * 3
        for process in begun:
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        told = [process.communicate(timeout=180) for process in begun]
    assert sorted(told) == [("", ""), ("refused\n", ""), ("refused\n", "")]
    with closing(Database(new)) as database, database.reading() as session:
        (pair,) = session.scalars(sa.select(Pair))
    assert [name for name in map(name_in, folders) if name] == [pair.name]


def test_a_folder_that_is_moved_or_copied_goes_on(url: str, serve: Callable[..., Taken | None], tmp_path: Path) -> None:
    first = serve(tmp_path / "one", url, taking=picture())
    (tmp_path / "one").rename(tmp_path / "moved")
    again = serve(tmp_path / "moved", url, taking=picture())
    assert first is not None
    assert again is not None
    assert (again.image_id, again.is_new) == (first.image_id, False)
    # Copied by means that know of radiographs and models alone: the refusal says what is missing.
    shutil.copytree(tmp_path / "moved", tmp_path / "copied", ignore=shutil.ignore_patterns(Path(NAMED).name))
    with pytest.raises(PairingError) as caught:
        serve(tmp_path / "copied", url)
    name = name_in(tmp_path / "moved")
    assert name
    assert f"write {name} into {NAMED} there" in caught.value.hint
    (tmp_path / "copied" / NAMED).write_text(name)
    serve(tmp_path / "copied", url)


def test_a_folder_that_holds_radiographs_is_not_begun_anew(
    on_postgresql: Callable[..., AbstractContextManager[str]],
    template: str,
    url: str,
    serve: Callable[..., Taken | None],
    tmp_path: Path,
) -> None:
    """Within an hour every radiograph in it would be deleted, as a file that no row names."""
    folder = tmp_path / "one"
    serve(folder, url, taking=picture())
    with on_postgresql(template) as other, pytest.raises(PairingError, match="of which this database knows nothing"):
        serve(folder, other)
    with pytest.raises(PairingError, match="has its database elsewhere"):
        serve(folder)  # --database was forgotten
    assert not (folder / "callus.sqlite").exists()
    (folder / ELSEWHERE).unlink()
    with pytest.raises(PairingError, match="of which this database knows nothing"):
        serve(folder)
    assert files(folder) == 1
    serve(folder, url)


def test_what_an_earlier_version_left_goes_together_from_then_on(
    database: Database, url: str, serve: Callable[..., Taken | None], tmp_path: Path
) -> None:
    serve(tmp_path / "one", url, taking=picture())
    (tmp_path / "one" / NAMED).unlink()
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE pair"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0003'"))
    serve(tmp_path / "one", url)
    with pytest.raises(PairingError):
        serve(tmp_path / "two", url)
    with database.reading() as session:
        assert session.get_one(Pair, 1).name == name_in(tmp_path / "one")
        assert len(session.scalars(sa.select(Image)).all()) == 1


def test_a_first_start_that_is_killed_half_way_is_made_good(database: Database, url: str, tmp_path: Path) -> None:
    open_pair(tmp_path, url, begins=True).close()
    name = name_in(tmp_path)
    with database.writing() as session:
        session.delete(session.get_one(Pair, 1))
    open_pair(tmp_path, url, begins=True).close()
    with database.reading() as session:
        assert session.get_one(Pair, 1).name == name == name_in(tmp_path)


def test_the_other_verbs_refuse_it_too(url: str, serve: Callable[..., Taken | None], tmp_path: Path) -> None:
    serve(tmp_path / "one", url)
    serve(tmp_path / "two")
    line = ["data", "from-verdicts", str(tmp_path / "two"), "--out", str(tmp_path / "verdicts.csv"), "--database", url]
    assert isinstance(CliRunner().invoke(app, line).exception, PairingError)
    assert isinstance(CliRunner().invoke(app, [*line[:2], str(tmp_path / "one"), *line[3:5]]).exception, PairingError)
    with pytest.raises(PairingError, match="another folder's"):
        reset_password(Settings(tmp_path / "two", database=url), "ada")
    with pytest.raises(PairingError, match="has its database elsewhere"):
        reset_password(Settings(tmp_path / "one"), "ada")


def test_the_command_line_says_it_in_a_line(serve: Callable[..., Taken | None], tmp_path: Path) -> None:
    serve(tmp_path / "one")
    serve(tmp_path / "two")
    line = [sys.executable, "-m", "callus", "serve", "--data", str(tmp_path / "two"), "--port", "0"]
    line += ["--database", f"sqlite:///{tmp_path / 'one' / 'callus.sqlite'}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"callus: {tmp_path / 'two'}: does not go with this database" in done.stderr


@pytest.mark.parametrize("name", ["old", "R\u00f6ntgen ?mode=ro&x #1 100%41 a:b@c;d"])
def test_a_backup_that_is_restored_has_its_database(
    serve: Callable[..., Taken | None], tmp_path: Path, name: str
) -> None:
    old, new = tmp_path / name, tmp_path / f"{name} new"
    serve(old, taking=picture())
    back_up(old, tmp_path / "clinic.tar")
    restore(tmp_path / "clinic.tar", new)
    open_pair(new, "").close()  # as "callus password" does, before the first start
    serve(new, taking=picture(1))
    assert name_in(new) == name_in(old)
    back_up(new, tmp_path / "clinic.tar")
    assert {file.name for file in tmp_path.iterdir()} == {old.name, new.name, "clinic.tar"}


def test_another_folder_s_database_is_no_backup(serve: Callable[..., Taken | None], tmp_path: Path) -> None:
    for name in ("one", "two"):
        serve(tmp_path / name, taking=picture())
    shutil.copy(tmp_path / "one" / "callus.sqlite", tmp_path / "two" / "callus.sqlite")
    with pytest.raises(BackupError, match=r"holds the callus\.sqlite of another folder"):
        back_up(tmp_path / "two", tmp_path / "clinic.tar")
    with pytest.raises(PairingError):
        serve(tmp_path / "two")
    with closing(sqlite3.connect(tmp_path / "one" / "callus.sqlite")) as opened:  # an earlier version's
        opened.execute("DROP TABLE pair")
    back_up(tmp_path / "one", tmp_path / "clinic.tar")
