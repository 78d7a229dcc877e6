"""The service's figures: one JSON line for each, and a sentence for people.

    python bench/service.py kill        # nothing is lost: killed at 10 random moments while 1,000 radiographs come
    python bench/service.py http        # what HTTP adds to identification
    python bench/service.py answers     # answers a second with their results, and requests meanwhile
    python bench/service.py worklist    # 100,000 studies: the worklist's p95, and the page's first paint
    python bench/service.py clients     # 50 clients, 10 minutes: errors, memory, back-pressure
    python bench/service.py receive     # MB/s of C-STORE, alone and beside answering
    python bench/service.py start       # start to ready, without torch and Node

``--quick`` tries any of them in a minute or two; its figures are of no worth. ``--model`` takes a bundle; a tiny
network, which answers at once, where none is given: then what the service itself takes is measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = parser.add_subparsers(required=True, metavar="FIGURE")
    one = _figure(figures, "kill", "SIGKILL at random moments while radiographs come", "kill --quick", _kill)
    one.add_argument("--objects", type=int, default=1000)
    one.add_argument("--senders", type=int, default=4, help="storescu at once")
    one.add_argument("--clients", type=int, default=4, help="HTTP clients at once")
    one.add_argument("--kills", type=int, default=10)
    one.add_argument("--size", default="480x400", help="rows x columns of 16 bits")
    one.add_argument("--seed", type=int, default=1, help="of the moments")
    one = _figure(figures, "http", "what HTTP adds to identification", "http --objects 50", _http)
    one.add_argument("--objects", type=int, default=100)
    one.add_argument("--size", default="1200x1000", help="rows x columns of 16 bits")
    one = _figure(figures, "answers", "answers a second, and requests meanwhile", "answers --model runs/mine", _answers)
    one.add_argument("--objects", type=int, default=60)
    one.add_argument("--size", default="2500x2048", help="rows x columns of 16 bits")
    one.add_argument("--threads", type=int, help="cores for the network; all where not given")
    one = _figure(figures, "worklist", "the worklist of many studies", "worklist --studies 100000", _worklist)
    one.add_argument("--studies", type=int, default=100_000)
    one.add_argument("--requests", type=int, default=400)
    one.add_argument("--visits", type=int, default=7, help="times that Chromium opens the page")
    one = _figure(figures, "clients", "many clients for long", "clients --clients 50 --minutes 10", _clients)
    one.add_argument("--clients", type=int, default=50)
    one.add_argument("--minutes", type=float, default=10)
    one.add_argument("--waiting", type=int, default=20, help="radiographs that may wait before senders are put off")
    one.add_argument("--size", default="480x400", help="rows x columns of 16 bits")
    one = _figure(figures, "receive", "MB/s of C-STORE", "receive --senders 4 --objects 8 --size 2500x2048", _receive)
    one.add_argument("--senders", type=int, default=4)
    one.add_argument("--objects", type=int, default=8, help="of each sender")
    one.add_argument("--size", default="2500x2048", help="rows x columns of 16 bits")
    one.add_argument("--switch-ms", type=float, help="Python's switch interval; its own where none is given")
    one = _figure(figures, "start", "start to ready", "start --runs 7", _start)
    one.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    given.run(given)


def _figure(
    figures: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    about: str,
    example: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """A figure's own words, with those that all have."""
    parser = figures.add_parser(
        name, help=about, description=about, epilog=f"Example: python bench/service.py {example}"
    )
    parser.add_argument("--model", help="a bundle; a tiny network where none is given")
    parser.add_argument("--quick", action="store_true", help="a small size, to try it")
    parser.add_argument("--folder", help="where to work; the system's folder for temporary files where not given")
    parser.set_defaults(run=run)
    return parser


# What a figure needs is imported when it is asked for: --help comes at once.


def _kill(given: argparse.Namespace) -> None:
    from service_figures import kill  # noqa: PLC0415

    kill.measure(given)


def _http(given: argparse.Namespace) -> None:
    from service_figures import over_http  # noqa: PLC0415

    over_http.http(given)


def _answers(given: argparse.Namespace) -> None:
    from service_figures import over_http  # noqa: PLC0415

    over_http.answers(given)


def _worklist(given: argparse.Namespace) -> None:
    from service_figures import worklist  # noqa: PLC0415

    worklist.measure(given)


def _clients(given: argparse.Namespace) -> None:
    from service_figures import crowd  # noqa: PLC0415

    crowd.measure(given)


def _receive(given: argparse.Namespace) -> None:
    from service_figures import receive  # noqa: PLC0415

    receive.measure(given)


def _start(given: argparse.Namespace) -> None:
    from service_figures import starting  # noqa: PLC0415

    starting.measure(given)


if __name__ == "__main__":
    main()
