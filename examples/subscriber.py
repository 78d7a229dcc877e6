"""Follow a service's findings as they come, and turn each box into a target: what a robot or an AR headset would do.

    export CALLUS_TOKEN=...                # made in the page, with the scope "read"
    python examples/subscriber.py http://127.0.0.1:8080
    python examples/subscriber.py https://callus.example --authority clinic-ca.pem --after 0

Prints a line for each finding, with the centre and the size of each box: in millimetres where the radiograph's pixel
spacing is known, else in pixels, both from the picture's upper left corner. Millimetres are the detector's unless the
image was calibrated, so bone is smaller than that by the magnification. Where the line breaks, it is taken up again
after the last finding that came, so none is missed. Needs Python and nothing else.

Research and education, not a medical device: nothing may be steered by this.

Exit code: 0 as many findings as were asked for; 2 the token or the address is wrong.
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import ssl
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATH = "/api/v1/events"
QUIET_S = 60.0  # the service says something every 15 seconds: silence for longer is a dead line
LONGEST_WAIT_S = 60.0
RECENT = 1000  # findings that are known again; after a break the service tells the last few once more
NOTICE = "research and education, not a medical device"


class RefusedError(Exception):
    """The service does not want this program, and asking again would not help."""


@dataclass(frozen=True)
class Target:
    """Where to aim, from the picture's upper left corner.

    Attributes:
        x: of the box's centre, to the right.
        y: of the box's centre, down.
        width: of the box.
        height: of the box.
        unit: of the four: "mm" or "px".
        score: the heat map's largest value in the box, in [0, 1].
    """

    x: float
    y: float
    width: float
    height: float
    unit: str
    score: float

    def __str__(self) -> str:
        digits = 1 if self.unit == "mm" else 0
        x, y, width, height = (f"{value:.{digits}f}" for value in (self.x, self.y, self.width, self.height))
        return f"target {x}, {y} {self.unit} ({width} x {height} {self.unit}, score {self.score:.2f})"


def targets(finding: dict[str, Any]) -> list[Target]:
    """The targets of a finding, in millimetres where its radiograph tells how large a pixel is."""
    unit, boxes = ("px", finding["boxes"]) if finding["boxes_mm"] is None else ("mm", finding["boxes_mm"])
    return [
        Target(
            box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"], box["height"], unit, box["score"]
        )
        for box in boxes
    ]


def line(finding: dict[str, Any]) -> str:
    """A finding in a line."""
    aimed = "; ".join(map(str, targets(finding))) or "no target"
    return (
        f"finding {finding['id']}: study {finding['study']}, image {finding['image']}: {finding['level']},"
        f" probability {finding['probability']:.2f}: {aimed}"
    )


def events(lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """The events of a stream (HTML Standard, 9.2.6): a dictionary of its fields each."""
    fields: dict[str, str] = {}
    for raw in lines:
        text = raw.decode("utf-8").rstrip("\r\n")
        if not text:
            if fields:
                yield fields
            fields = {}
            continue
        name, _, value = text.partition(":")
        if name:  # what begins with a colon is a comment
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value


def follow(address: str, token: str, after: int | None, authority: str | None = None) -> Iterator[dict[str, Any]]:
    """Findings, one after the other, for ever, over all breaks of the line.

    Args:
        address: the service's, such as ``http://127.0.0.1:8080``.
        token: of the scope "read".
        after: the number of the last finding that is known; None for those to come only.
        authority: file (PEM) of the authority of its certificate; None for the system's.

    Raises:
        RefusedError: the token or the address is wrong.
    """
    wait, last = 1.0, after
    told: deque[int] = deque(maxlen=RECENT)
    before = math.inf if after is None else after  # up to this number they are not wanted
    while True:
        again = last is not None
        connection = _connection(address, authority)
        try:
            headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
            connection.request("GET", PATH, headers=headers | ({"Last-Event-ID": str(last)} if again else {}))
            response = connection.getresponse()
            if response.status in (401, 403, 404):
                raise RefusedError(f"the service answers {response.status}: is the token right, has it the scope read?")
            if response.status == http.HTTPStatus.OK:
                wait = 1.0
                for event in events(response):
                    if last is None and event.get("id"):  # where it begins, before there is a finding
                        last = before = int(event["id"].partition(".")[0])
                    if event.get("event") != "finding":
                        continue
                    finding = json.loads(event["data"])
                    number = finding["id"]
                    if number in told or (again and number <= before):  # one that comes twice is told once
                        continue
                    told.append(number)
                    last, before = max(number, last or 0), min(number - 1, before)  # they may come in another order
                    yield finding
            else:
                wait = float(response.headers.get("Retry-After", wait))
        except ssl.SSLCertVerificationError as error:
            raise RefusedError(f"its certificate: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            print(f"# the line broke ({type(error).__name__}); again in {wait:g} s", file=sys.stderr)
        finally:
            connection.close()
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT_S)


def _connection(address: str, authority: str | None) -> http.client.HTTPConnection:
    # Not urllib: that would follow to another host, and take the token along.
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        context = ssl.create_default_context(cafile=authority)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=QUIET_S, context=context)
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=QUIET_S)
    raise RefusedError(f"{address!r} is no address; such as http://127.0.0.1:8080")


def main() -> int:
    """Print findings until there were enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="the service's, such as http://127.0.0.1:8080")
    parser.add_argument("--after", type=int, help="begin after the finding of this number; 0: with the first there is")
    parser.add_argument("--count", type=int, help="end after so many")
    parser.add_argument("--authority", help="file (PEM) of the authority of the service's certificate")
    given = parser.parse_args()
    token = os.environ.get("CALLUS_TOKEN", "")  # not on the command line, which everybody on the machine can read
    if not token:
        print("set CALLUS_TOKEN to a token of the scope read", file=sys.stderr)
        return 2
    print(f"# {NOTICE}", flush=True)
    try:
        for number, finding in enumerate(follow(given.address, token, given.after, given.authority), 1):
            print(line(finding), flush=True)
            if number == given.count:
                return 0
    except RefusedError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
