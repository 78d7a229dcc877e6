"""What the service is told: unsafe and useless choices are refused, with what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from callus.service.database import Database, DatabaseError
from callus.service.settings import Caller, SettingsError, load_settings

NODE = """
[dicom]
port = 11112
certificate = "node.pem"
key = "node.key"
client_authorities = "clinic-ca.pem"
"""
ARCHIVE = "[[destinations]]\nae_title = 'PACS'\nhost = '127.0.0.1'\n"
CALLER = '[[dicom.callers]]\nae_title = "ROOM1"\n'


def loaded(folder: Path, text: str) -> tuple[Caller, ...]:
    file = folder / "clinic.toml"
    file.write_text(text)
    return load_settings(file, data=folder).dicom.callers


def test_a_caller_may_be_known_by_its_certificate(tmp_path: Path) -> None:
    sha256 = ":".join(["3F"] * 32)
    text = f'{NODE}{CALLER}certificate_name = "room1.clinic.example"\ncertificate_sha256 = "{sha256}"\n'
    (caller,) = loaded(tmp_path, text)
    assert caller == Caller("ROOM1", "", "room1.clinic.example", sha256)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dicom]\nport = 11112\n" + CALLER, "an AE title proves nothing"),
        (f'[dicom]\nport = 11112\n{CALLER}address = "10.1"\n', "expected an IP address"),
        (f'[dicom]\n{CALLER}address = "10.1.2.3"\ncertificate_name = "room1"\n', "it could never send"),
        (f'[dicom]\n{CALLER}address = "10.1.2.3"\ncertificate_sha256 = "{"3f" * 32}"\n', "it could never send"),
        (f'{NODE}{CALLER}certificate_sha256 = "3f:3f"\n', "expected 64 hexadecimal digits"),
        (f"{NODE}{CALLER}certificate_name = 3\n", "expected str"),
        (f'[dicom]\nclient_authorities = "clinic-ca.pem"\n{CALLER}', "which only TLS carries"),
    ],
)
def test_a_caller_that_could_be_anybody_or_nobody_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retention_days = -1", "retention_days is -1; expected 0 to 36,500"),  # all would be older than tomorrow
        ("retention_days = 1000000000", "expected 0 to"),
        ("retention_days = true", "expected int"),
        ("waiting_most = 0", "expected 1 to"),
        ("largest_upload = 0", "expected 1 to"),
        ("keep_free = -1", "expected 0 to"),
        ("port = 65536", "expected 0 to 65,535"),
        ("[dicom]\nport = 11112\ncallers = []", "nobody could send"),
        ("[dicom]\nport = -1", "dicom.port is -1; expected 0 to 65,535"),
        ("dicom = 3", "dicom is 3; expected a table"),
        ("[dicom]\ncallers = [3]", "dicom.callers is 3; expected tables"),
        ("openid = []", r"openid is \[\]; expected a table"),
        ("[destinations]\nname = 'a'", "expected tables"),
        ("destinations = 3", "destinations is 3; expected tables"),
        (f"{ARCHIVE}name = ' '", "expected 1 to 60 letters"),
        (f"{ARCHIVE}name = '{'x' * 61}'", "expected 1 to 60 letters"),
        (f"{ARCHIVE}name = 'a'\nport = 0", "destination a: port is 0; expected 1 to 65,535"),
        (f"{ARCHIVE}name = 'a'\nresults = 'sr'", "destinations.results is 'sr'; expected a list"),
        ("[[sources]]\nname = ''\nurl = 'https://x'", "one of the sources is called ''"),
    ],
)
def test_what_would_not_work_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text)


def test_a_folder_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "clinic.toml").write_text("data = 3")
    with pytest.raises(SettingsError, match="data is 3; expected a folder's name"):
        load_settings(tmp_path / "clinic.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('scopes = ["profile"]', "expected openid"),
        ('scopes = ["openid profile"]', "without blanks"),
        ('scopes = "openid"', "expected a list"),
        ('[openid.roles]\nstaff = "nurse"', "expected one of reader, radiologist, administrator"),
        ("[openid.roles]\nstaff = 3", "expected one of"),
        ("roles = 3", "openid.roles is 3; expected a table"),
    ],
)
def test_a_provider_that_could_let_nobody_in_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, f'[openid]\nissuer = "https://login.example"\nclient_id = "callus"\n{text}\n')


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracl://x", "there is no database called 'oracl'"),
        ("postgresql+nothing://x", "there is no database called"),
        ("mysql+pymysql://x", "needs pymysql, which is not installed"),
        ("nonsense", "cannot be understood"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_in_a_line(url: str, said: str) -> None:
    with pytest.raises(DatabaseError, match=said) as caught:
        Database(url)
    assert caught.value.hint


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_without_room_for_every_name_is_refused(on_postgresql: Any, encoding: str) -> None:
    with on_postgresql("template0", f"ENCODING '{encoding}' LOCALE 'C'") as url:
        with pytest.raises(DatabaseError, match=f"keeps text as {encoding}; expected UTF8") as caught:
            Database(url)
        assert "createdb --encoding UTF8" in caught.value.hint


def test_without_its_driver_postgresql_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(DatabaseError, match="needs psycopg, which is not installed") as caught:
        Database("postgresql://callus@127.0.0.1:1/callus")
    assert "callus[postgresql]" in caught.value.hint
