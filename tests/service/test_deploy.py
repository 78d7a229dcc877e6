"""What deploy/ has works: nginx in front of callus, the settings to begin with, the systemd unit, the health check."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from certificates import Authority
from clinic import radiograph
from programs import free_port, missing
from served import NAME, PASSWORD, Served, serving

from callus.service.settings import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = Path("/usr/sbin/nginx")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("clinic"), tiny_bundle, "--behind-proxy") as served:
        yield served


@pytest.fixture(scope="module")
def proxy(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A browser at nginx, which runs with the configuration of deploy/, its ports and its certificate apart."""
    if not NGINX.exists():
        missing("nginx")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    authority = Authority(folder)
    pair = authority.give("callus")
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("/etc/ssl/callus.pem", str(pair.certificate)),
        ("/etc/ssl/private/callus.key", str(pair.key)),
        ("http://127.0.0.1:8080", served.address),
        ("callus.example", "127.0.0.1"),
    ):
        assert old in text
        text = text.replace(old, new)
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    (folder / "callus.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {places} include {folder}/callus.conf; }}\n"
    )
    process = subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        wait_for(port, process)
        address = f"https://127.0.0.1:{port}"
        trusted = ssl.create_default_context(cafile=authority.file)
        with httpx.Client(base_url=f"{address}/api/v1", verify=trusted, trust_env=False, timeout=60) as browser:
            browser.headers["Origin"] = address
            yield browser
    finally:
        process.kill()
        process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("nginx does not listen")


def test_the_page_is_used_through_nginx(served: Served, proxy: httpx.Client) -> None:
    given = {"secret": served.first_key(), "name": NAME, "password": PASSWORD}
    joined = proxy.post("/first", json=given, headers={"X-Forwarded-For": "6.6.6.6"})
    assert joined.status_code == 200, joined.text
    assert "Secure" in joined.headers["Set-Cookie"]
    assert joined.headers["Strict-Transport-Security"]
    proxy.headers["X-CSRF-Token"] = joined.json()["csrf"]

    with proxy.stream("GET", "/events", headers={"Last-Event-ID": "0"}) as events:
        lines = events.iter_lines()
        large = radiograph(1, pixels=np.random.default_rng(0).integers(0, 4096, (1500, 1500), dtype=np.uint16))
        assert len(large) > 4 << 20
        sent = proxy.post("/radiographs", files=[("files", ("1.dcm", large))])
        assert sent.status_code == 202, sent.text
        begun = time.monotonic()
        assert next(line for line in lines if line.startswith("event: finding"))
        assert time.monotonic() - begun < 60
    audit = proxy.get("/audit").json()["entries"]
    assert {entry["address"] for entry in audit} <= {"127.0.0.1", ""}


def test_a_proxy_that_does_not_pass_host_is_told_of(served: Served) -> None:
    given = {"name": NAME, "password": PASSWORD}
    answer = served.browser.post("/login", json=given, headers={"Origin": "https://callus.example"})
    assert answer.status_code == 403
    assert "pass Host on" in answer.json()["error"]["hint"]


def test_the_settings_to_begin_with_are_good() -> None:
    settings = load_settings(DEPLOY / "clinic.toml")
    assert settings.behind_proxy
    assert f"--config /etc/callus/{DEPLOY.joinpath('clinic.toml').name}" in (DEPLOY / "callus.service").read_text()
    commented = [line.removeprefix("# ") for line in (DEPLOY / "clinic.toml").read_text().splitlines()[1:]]
    assert any(line.startswith("[dicom]") for line in commented)


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    unit = tmp_path / "callus.service"
    unit.write_text((DEPLOY / "callus.service").read_text().replace("/opt/callus/bin/callus", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_s_health_check_tells_a_service_that_answers(served: Served) -> None:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", "")
    (line,) = (line for line in text.splitlines() if line.startswith("HEALTHCHECK"))
    program, option, code = json.loads(line.partition("CMD ")[2])
    assert (program, option) == ("/opt/callus/bin/python", "-c")
    assert "127.0.0.1', 8080" in code

    def checked(port: int) -> int:
        words = [sys.executable, "-c", code.replace("8080", str(port))]
        return subprocess.run(words, check=False, capture_output=True, timeout=60).returncode

    assert checked(int(served.address.rpartition(":")[2])) == 0
    assert checked(free_port()) == 1
