"""Orthanc as the hospital's archive: C-STORE both ways, STOW-RS, QIDO-RS and WADO-RS, on loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import requests
from programs import free_port, missing

PROGRAM = Path("/usr/sbin/Orthanc")
PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc/plugins"))
PLUGIN = "libOrthancDicomWeb.so"
TITLE = "PACS"


@dataclass(frozen=True)
class Orthanc:
    """One that runs."""

    http: int
    dicom: int
    login: tuple[bytes, bytes] | None = None
    """A name and its password, where it wants them (HTTP Basic)."""

    @property
    def web(self) -> str:
        """Its DICOMweb root."""
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """Ask its own interface; an answer that is an error is raised."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        with requests.Session() as session:
            session.trust_env, session.auth = False, self.login
            answer = session.request(method, f"http://127.0.0.1:{self.http}{path}", data=data, timeout=60)
        answer.raise_for_status()
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.content

    def put(self, data: bytes) -> str:
        """Give it a DICOM file; its name for the study."""
        return str(self.rest("POST", "/instances", data)["ParentStudy"])

    def know(self, name: str, title: str, port: int) -> None:
        """Have it know a DICOM node."""
        self.rest("PUT", f"/modalities/{name}", {"AET": title, "Host": "127.0.0.1", "Port": port})

    def know_web(self, name: str, url: str, token: str) -> None:
        """Have it know a DICOMweb server, and the token that it is to be asked with."""
        self.rest(
            "PUT", f"/dicom-web/servers/{name}", {"Url": url, "HttpHeaders": {"Authorization": f"Bearer {token}"}}
        )

    def send_web(self, name: str, *resources: str) -> Any:
        """Have it send studies, series or instances to such a server by STOW-RS; what it says of that."""
        return self.rest("POST", f"/dicom-web/servers/{name}/stow", {"Resources": resources, "Synchronous": True})

    def objects(self, study_uid: str = "") -> list[pydicom.Dataset]:
        """All that it holds, or of one study."""
        files = [self.rest("GET", f"/instances/{one}/file") for one in self.rest("GET", "/instances")]
        held = [pydicom.dcmread(BytesIO(file)) for file in files]
        return [one for one in held if not study_uid or study_uid == one.StudyInstanceUID]

    def clear(self) -> None:
        """Have it forget everything."""
        for one in self.rest("GET", "/patients"):
            self.rest("DELETE", f"/patients/{one}")


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[Orthanc]:
    """Start one with an empty store.

    Args:
        folder: for its files.
        **changes: to its configuration.
    """
    program = PROGRAM if PROGRAM.exists() else shutil.which("Orthanc")
    plugin = next((place / PLUGIN for place in PLUGINS if (place / PLUGIN).exists()), None)
    if program is None or plugin is None:
        missing("Orthanc with its DICOMweb plugin")
    login = next(((name.encode(), word.encode()) for name, word in changes.get("RegisteredUsers", {}).items()), None)
    one = Orthanc(free_port(), free_port(), login)
    configuration = {
        "Name": "archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin)],
        "HttpPort": one.http,
        "DicomPort": one.dicom,
        "DicomAet": TITLE,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": login is not None,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": True,
        "DicomModalitiesInDatabase": True,
        "OverwriteInstances": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **changes,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(program), str(file)], stdout=log, stderr=log, cwd=folder)
        try:
            _wait(one, process, folder / "log")
            yield one
        finally:
            process.kill()  # what it keeps is of no worth; ending in order takes it seconds
            process.wait(20)


def _wait(one: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        try:
            one.rest("GET", "/dicom-web/studies")
        except requests.RequestException:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-2000:])
