"""``examples/subscriber.py`` at a real service: targets in millimetres, and nothing missed over a crash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from clinic import picture, radiograph
from programs import free_port
from served import Served, line_of, serving

from callus.labels import RESEARCH_ONLY

EXAMPLE = Path(__file__).parents[2] / "examples" / "subscriber.py"
LINE = re.compile(r"finding (\d+): study \d+, image (\d+): (?:fracture|doubt|none), probability [01]\.\d\d: (.*)")
TARGET = re.compile(r"target ([\d.]+), ([\d.]+) (mm|px) \(([\d.]+) x ([\d.]+) (?:mm|px), score [01]\.\d\d\)")


@pytest.fixture(scope="module")
def example() -> Any:
    spec = spec_from_file_location("subscriber", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["subscriber"] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def subscribed(served: Served, token: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), served.address, *words],
        env=os.environ | {"CALLUS_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert line_of(process) == f"# {RESEARCH_ONLY}\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def told(process: subprocess.Popen[str]) -> re.Match[str]:
    line = line_of(process)
    found = LINE.fullmatch(line.strip())
    assert found, line
    return found


def sent(served: Served, data: bytes, name: str = "a.dcm") -> int:
    (one,) = served.post("/radiographs", files=[("files", (name, data))]).json()["taken"]
    return int(one["image"])


def test_boxes_become_targets_and_a_crash_loses_none(tmp_path: Path, tiny_bundle: Path) -> None:
    port = str(free_port())
    with serving(tmp_path, tiny_bundle, "--port", port) as served:
        served.join()
        token = served.token("read")
        with subscribed(served, token, "--after", "0") as follower:
            known = sent(served, radiograph(1, ImagerPixelSpacing=[0.2, 0.1]))
            first = told(follower)
            assert int(first[2]) == known
            box = of_image(served, known)["boxes"][0]
            target = TARGET.match(first[3])
            assert target, first[3]
            x, y, width, height = (float(target[group]) for group in (1, 2, 4, 5))
            assert target[3] == "mm"
            assert x == pytest.approx(0.1 * (box["x"] + box["width"] / 2), abs=0.051)
            assert y == pytest.approx(0.2 * (box["y"] + box["height"] / 2), abs=0.051)
            assert width == pytest.approx(0.1 * box["width"], abs=0.051)
            assert height == pytest.approx(0.2 * box["height"], abs=0.051)

            unknown = sent(served, picture(), "a.png")
            second = told(follower)
            assert int(second[2]) == unknown
            assert " mm" not in second[3]
            served.kill()
            with serving(tmp_path, None, "--port", port) as again:
                again.log_in()
                third = sent(again, radiograph(2))
                found = told(follower)
                assert int(found[2]) == third
                assert int(found[1]) > int(second[1])
                numbers = [first[1], second[1], found[1]]
                with subscribed(again, token, "--after", numbers[0], "--count", "2") as late:
                    assert [told(late)[1] for _ in range(2)] == numbers[1:]
                    assert late.wait(30) == 0


def of_image(served: Served, image: int) -> dict[str, Any]:
    for line in served.browser.get("/studies").json()["studies"]:
        for one in served.browser.get(f"/studies/{line['id']}").json()["images"]:
            if one["id"] == image:
                answer: dict[str, Any] = one["answer"]
                return answer
    raise AssertionError(image)


def test_a_wrong_token_or_address_ends_it_with_a_line(tmp_path: Path, tiny_bundle: Path) -> None:
    with serving(tmp_path, tiny_bundle) as served:
        served.join()
        send_only = served.token("send")
        for token in ("callus_nobody", send_only):
            with subscribed(served, token) as process:
                _, errors = process.communicate(timeout=30)
                assert process.returncode == 2
                assert "is the token right" in errors
                assert token not in errors
    for words, env in ((["nowhere"], {"CALLUS_TOKEN": "x"}), (["http://127.0.0.1:1"], {"CALLUS_TOKEN": ""})):
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), *words],
            env=os.environ | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1


def test_findings_in_another_order_are_told_once_each(example: Any) -> None:
    """As the service may tell them: one overtakes another, the line breaks, and the last few are told once more."""
    lines, asked = [[12, 11], [9, 10, 11, 12, 13]], []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Last-Event-ID"])
            self.send_response(200)
            self.end_headers()
            for number in lines.pop(0):
                self.wfile.write(f'event: finding\ndata: {{"id": {number}}}\n\n'.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        findings = example.follow(f"http://127.0.0.1:{server.server_port}", "a token", None)
        assert [next(findings)["id"] for _ in range(3)] == [12, 11, 13]
        findings.close()
        server.shutdown()
    assert asked == [None, "12"]


def test_a_break_before_the_first_finding_loses_none(example: Any) -> None:
    """The service says where it begins, and the next line is asked for from there."""
    lines, asked = [b"id: 7\n\n", b'id: 7\n\nid: 8\nevent: finding\ndata: {"id": 8}\n\n'], []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Last-Event-ID"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(lines.pop(0))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        findings = example.follow(f"http://127.0.0.1:{server.server_port}", "a token", None)
        assert next(findings)["id"] == 8
        findings.close()
        server.shutdown()
    assert asked == [None, "7"]


def test_a_stream_is_read_by_its_rules(example: Any) -> None:
    lines = [b": hello\n", b"retry: 3000\n", b"\n", b"id: 7\r\n", b"event:finding\r\n", b"data: {\r\n", b"data: }\r\n"]
    assert list(example.events([*lines, b"\r\n", b"data: cut"])) == [
        {"retry": "3000"},
        {"id": "7", "event": "finding", "data": "{\n}"},
    ]
