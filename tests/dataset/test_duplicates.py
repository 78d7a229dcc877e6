"""Copies are found, look-alikes are not joined: on simulated radiographs, and on real ones with verdicts by eye."""

from __future__ import annotations

import csv
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from callus import radiograph
from callus.dataset import duplicates, neighbours
from callus.dataset.changes import CHANGES
from callus.dataset.duplicates import find_duplicates
from callus.dataset.keypoints import BOTH, INVERTED, MIRRORED, PLAIN, describe
from callus.dataset.neighbours import Neighbours, Vocabulary
from callus.dataset.registration import lay_over
from callus.dataset.shelf import Shelf
from callus.dataset.simulated import simulate
from callus.dataset.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.dataset.duplicates import Duplicates
    from callus.dataset.keypoints import Description

VERDICTS = Path(__file__).parent / "verdicts" / "fracatlas_pairs.csv"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Ten simulated radiographs, of ten patients."""
    frame = simulate(tmp_path_factory.mktemp("simulated") / "set", 24, seed=5, size=(360, 300))
    first = frame.drop_duplicates("patient").head(10)
    assert len(first) == 10
    return [radiograph.read(path).pixels for path in first["path"]]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Shelf(tmp_path / "shelf.sqlite") as opened:
        yield opened


def search(paths: list[Path], shelf: Shelf, workers: int | None = None) -> Duplicates:
    sha = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return find_duplicates([str(path) for path in paths], sha, shelf, workers)


def write(folder: Path, pictures: dict[str, np.ndarray]) -> list[Path]:
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / name)
        assert cv2.imwrite(str(paths[-1]), picture)
    return paths


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)))


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        (PLAIN, lambda picture: picture),
        (MIRRORED, lambda picture: picture[:, ::-1]),
        (INVERTED, lambda picture: 255 - picture),
        (BOTH, lambda picture: 255 - picture[::-1]),
    ],
)
def test_each_variant_is_told_from_one_description(
    originals: list[np.ndarray], variant: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    for picture in originals[:3]:
        copy = np.ascontiguousarray(change(turned(picture, 33)))
        overlay = lay_over(describe(picture), describe(copy))
        assert overlay is not None
        assert overlay.variant == variant
        assert overlay.close > 0.6 * overlay.reach
        assert overlay.detail > 0.7


def test_the_vector_of_a_variant_is_that_of_the_changed_picture(originals: list[np.ndarray]) -> None:
    described = [describe(picture) for picture in originals]
    vocabulary = Vocabulary(described)
    for picture, description in zip(originals, described, strict=True):
        own = vocabulary.vectors([description])[0]
        for variant, copy in ((MIRRORED, picture[:, ::-1]), (INVERTED, 255 - picture)):
            theirs = vocabulary.vectors([describe(np.ascontiguousarray(copy))])[0, PLAIN]
            likeness = own @ theirs
            assert likeness.argmax() == variant
            assert likeness[variant] > 0.6


def test_sixteen_bits_are_described_as_eight(originals: list[np.ndarray]) -> None:
    eight, sixteen = describe(originals[0]), describe(originals[0].astype(np.uint16) * 257)
    assert abs(len(eight.points) - len(sixteen.points)) <= 3
    assert np.abs(eight.thumbnail.astype(int) - sixteen.thumbnail).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (300, 300)])
def test_what_has_no_places_is_alike_to_nothing(size: tuple[int, int], originals: list[np.ndarray]) -> None:
    flat = describe(np.full(size, 7, np.uint8))
    assert len(flat.points) == 0
    assert lay_over(flat, describe(originals[0])) is None
    assert np.isfinite(Vocabulary([flat, describe(originals[0])]).vectors([flat])).all()
    assert np.isfinite(Vocabulary([flat]).vectors([flat])).all()


def test_neighbours_are_others_and_end(originals: list[np.ndarray]) -> None:
    described = [describe(picture) for picture in originals[:4]]
    vocabulary = Vocabulary(described)
    numbers, likeness = Neighbours(vocabulary.vectors(described)).nearest(6)
    for row, found in enumerate(numbers):
        assert sorted(found[:3]) == [other for other in range(4) if other != row]
        assert (found[3:] == -1).all()
    assert (np.diff(likeness[:, :3]) <= 0).all()


def test_neighbours_in_cells_are_those_of_a_whole_search(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    centres = generator.normal(size=(400, 64)).astype(np.float32)  # ten copies of each, in four variants
    noise = generator.normal(scale=0.7, size=(4000, 4, 64)).astype(np.float32)
    vectors = np.repeat(centres, 10, axis=0)[:, np.newaxis] + noise
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    whole, likeness = Neighbours(vectors).nearest(9)
    monkeypatch.setattr(neighbours, "_SEARCHED_WHOLE", 1000)
    one, exact = Neighbours(vectors).nearest(9)
    two, _ = Neighbours(vectors, workers=2).nearest(9)
    assert (one == two).all()
    assert np.mean([np.isin(a, b).mean() for a, b in zip(whole, one, strict=True)]) > 0.95
    same = one == whole
    assert np.isclose(exact[same], likeness[same], atol=1e-5).mean() > 0.99  # the codes may miss the best variant


def test_every_change_and_chains_are_found(originals: list[np.ndarray], tmp_path: Path, shelf: Shelf) -> None:
    generator = np.random.default_rng(2)
    pictures: dict[str, np.ndarray] = {}
    truth: list[int] = []
    for number, original in enumerate(originals):
        pictures[f"{number}.png"] = original
        for name, change in CHANGES.items():
            pictures[f"{number}-{name}.png"] = change(original, generator)
        chain = CHANGES["mirror"](CHANGES["rotate"](CHANGES["rotate"](original, generator), generator), generator)
        pictures[f"{number}-chain.jpg"] = chain
        truth += [number] * (len(CHANGES) + 2)
    found = search(write(tmp_path, pictures), shelf)
    together = same = right = 0
    for (a, x), (b, y) in itertools.combinations(zip(found.component, truth, strict=True), 2):
        together += a == b
        same += x == y
        right += a == b and x == y
    assert right == together, "two radiographs were joined"
    assert right >= 0.95 * same


def test_the_same_whatever_the_threads_and_the_order(originals: list[np.ndarray], tmp_path: Path, shelf: Shelf) -> None:
    pictures = {f"{i}-{angle}.png": turned(one, angle) for i, one in enumerate(originals[:4]) for angle in (0, 40, 200)}
    paths = write(tmp_path, pictures)
    first, second = search(paths, shelf, workers=1), search(paths, shelf, workers=3)
    assert first.links == second.links
    backward = search(paths[::-1], shelf).component[::-1]
    assert (np.equal.outer(backward, backward) == np.equal.outer(first.component, first.component)).all()


def test_by_how_much_copies_are_turned_is_told_along_the_links(
    originals: list[np.ndarray], tmp_path: Path, shelf: Shelf
) -> None:
    one = originals[0]
    mirrored = np.ascontiguousarray(turned(one, 25)[:, ::-1])
    pictures = {
        "a.png": one,
        "b.png": one,
        "c.png": turned(one, 25),
        "d.png": np.rot90(one).copy(),
        "e.png": turned(one, -155),
        "f.png": np.ascontiguousarray(one[:, ::-1]),
        "g.png": np.ascontiguousarray(one[::-1]),
        "h.png": mirrored,
        "i.png": turned(mirrored, 40),
    }
    paths = write(tmp_path, pictures)
    found = search(paths, shelf)
    assert len(set(found.component)) == 1
    against = {
        "a.png": [0, 0, 25, 90, 155, 0, 0, 25, 15],
        "c.png": [25, 25, 0, 65, 180, 25, 25, 0, 40],
        "i.png": [15, 15, 40, 75, 40, 15, 165, 40, 0],
    }
    for name, degrees in against.items():
        others = np.full(len(paths), list(pictures).index(name))
        assert found.turned_against(others) == pytest.approx(degrees, abs=0.7), name


def test_a_copy_of_an_oblong_picture_squashed_to_a_square(
    originals: list[np.ndarray], tmp_path: Path, shelf: Shelf
) -> None:
    oblong = [cv2.resize(one, (640, 320)) for one in originals[:3]]
    copies = [turned(np.asarray(cv2.resize(one, (224, 224), interpolation=cv2.INTER_AREA)), 60) for one in oblong]
    pictures = {f"{i}-oblong.png": one for i, one in enumerate(oblong)}
    pictures |= {f"{i}-square.png": one for i, one in enumerate(copies)}
    paths = write(tmp_path, dict(sorted(pictures.items())))
    component = search(paths, shelf).component
    assert [component[i] == component[i + 1] for i in (0, 2, 4)] == [True] * 3
    assert len(set(component[::2])) == 3


def test_what_is_described_is_not_described_again(
    originals: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write(tmp_path, {f"{i}.png": one[:280, :280] for i, one in enumerate(originals)})  # not oblong
    described: list[int] = []

    def stopped(pixels: np.ndarray, detail: object) -> object:
        described.append(1)
        if len(described) == 5:
            raise KeyboardInterrupt
        return describe(pixels)

    monkeypatch.setattr(duplicates, "describe", stopped)
    with Shelf(tmp_path / "s.sqlite") as shelf, pytest.raises(KeyboardInterrupt):
        search(paths, shelf, workers=1)
    described.clear()
    described.extend([1] * 5)  # never stopped again
    with Shelf(tmp_path / "s.sqlite") as shelf:
        assert len(shelf) >= 4
        search(paths, shelf, workers=1)
    assert len(described) - 5 <= len(originals) - 4
    described.clear()
    with Shelf(tmp_path / "s.sqlite") as shelf:
        search(paths, shelf, workers=1)
    assert not described


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Side by side, as one exported view shows two radiographs."""
    height = min(len(one) for one in pictures)
    return np.hstack([cv2.resize(one, (round(one.shape[1] * height / len(one)), height)) for one in pictures])


def test_more_copies_than_are_looked_up_are_one(originals: list[np.ndarray], tmp_path: Path, shelf: Shelf) -> None:
    """Each one's 24 nearest are all of its own 30."""
    one = cv2.resize(originals[0], (150, 180), interpolation=cv2.INTER_AREA)
    pictures = {f"other {i}.png": other for i, other in enumerate(originals[1:4])}
    paths = write(tmp_path, pictures)
    for name, picture in (("upright", one), ("turned", turned(one, 37))):
        for quality in range(66, 96):
            paths.append(tmp_path / f"{name} {quality}.jpg")
            assert cv2.imwrite(str(paths[-1]), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = search(paths, shelf)
    assert len(set(found.component[3:])) == 1
    assert len(set(found.component)) == 4


def test_a_picture_of_two_radiographs_joins_nothing(originals: list[np.ndarray], tmp_path: Path, shelf: Shelf) -> None:
    a, b = originals[0], originals[1]
    pictures = {"a.png": a, "a turned.png": turned(a, 20), "b.png": b, "b turned.png": turned(b, 50)}
    paths = write(tmp_path, pictures | {"both.png": beside(a, b)})
    component = dict(zip([path.name for path in paths], search(paths, shelf).component, strict=True))
    assert component["a.png"] == component["a turned.png"]
    assert component["b.png"] == component["b turned.png"]
    assert component["a.png"] != component["b.png"]


def test_a_chain_in_which_each_is_like_the_next_is_not_one(
    originals: list[np.ndarray], tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = [one[:280, :280] for one in originals]  # not oblong
    place = {describe(one).thumbnail.tobytes(): i for i, one in enumerate(chain)}

    def judge(pair: tuple[Description, Description]) -> Verdict:
        first, second = (place[one.thumbnail.tobytes()] for one in pair)
        return Verdict(lay_over(pair[0], pair[0]), same=abs(first - second) == 1, odds=9)

    monkeypatch.setattr(duplicates, "judge_coarsely", judge)
    component = search(write(tmp_path, {f"{i}.png": one for i, one in enumerate(chain)}), shelf).component
    assert np.unique(component, return_counts=True)[1].max() == 2


def window(generator: np.random.Generator) -> np.ndarray:
    """A viewer's window without its radiograph: panels, buttons, lines of text."""
    drawn = np.full((600, 800), 45, np.uint8)
    for x, y, width, height in generator.integers((0, 0, 40, 20), (700, 560, 300, 120), (14, 4)).tolist():
        cv2.rectangle(drawn, (x, y), (x + width, y + height), int(generator.integers(20, 200)), -1)
    letters = list("ABCDEFGHIKLMNOPRSTUVWabcdefghiklmn0123456789:/")
    for x, y, length in generator.integers((0, 15, 4), (700, 600, 16), (70, 3)).tolist():
        text, grey = "".join(generator.choice(letters, length)), int(generator.integers(120, 255))
        cv2.putText(drawn, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, grey, 1, cv2.LINE_AA)
    return drawn


def inside(drawn: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A quarter of the window shows the radiograph."""
    shown = drawn.copy()
    shown[150:450, 250:650] = 0
    width = round(picture.shape[1] * 300 / len(picture))
    shown[150:450, 450 - width // 2 :][:, :width] = cv2.resize(picture, (width, 300), interpolation=cv2.INTER_AREA)
    return shown


def under(mark: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A watermark lies over the whole radiograph."""
    return np.maximum(cv2.resize(picture, mark.shape[::-1], interpolation=cv2.INTER_AREA), mark)


@pytest.mark.parametrize("overlaid", ["a window", "a watermark"])
def test_what_is_drawn_about_or_over_radiographs_does_not_join_them(
    originals: list[np.ndarray], tmp_path: Path, shelf: Shelf, overlaid: str
) -> None:
    drawn = window(np.random.default_rng(3))
    mark = np.where(drawn > 210, drawn, 0)[:480, :480].astype(np.uint8)
    pictures = {}
    for i, one in enumerate(originals[:6]):
        shown = inside(drawn, one) if overlaid == "a window" else under(mark, one)
        pictures |= {f"{i}.png": shown, f"{i} coded.jpg": shown, f"{i} turned.png": turned(shown, 25)}
    component = search(write(tmp_path, pictures), shelf).component
    assert [len(set(component[i : i + 3])) for i in range(0, 18, 3)] == [1] * 6
    assert len(set(component)) == 6


def test_files_that_vanish_or_change_are_left_alone(originals: list[np.ndarray], tmp_path: Path, shelf: Shelf) -> None:
    paths = write(tmp_path, {f"{i}.png": one for i, one in enumerate(originals[:4])})
    sha = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    paths[1].unlink()
    paths[2].write_bytes(paths[0].read_bytes())
    found = find_duplicates([str(path) for path in paths], [*sha[:3], ""], shelf)
    assert len(set(found.component)) == 4
    assert found.described == 1


def test_a_shelf_that_cannot_be_used_is_told(originals: list[np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "damaged.sqlite").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    for place in (tmp_path / "file" / "shelf.sqlite", tmp_path / "damaged.sqlite"):
        with Shelf(place) as shelf:
            assert "not kept" in shelf.remark
            shelf.put("a", describe(originals[0]))
            assert "a" in shelf
            assert (shelf.get("a").thumbnail == describe(originals[0]).thumbnail).all()
            with pytest.raises(KeyError):
                shelf.get("b")


def test_what_is_put_on_a_shelf_comes_back(originals: list[np.ndarray], tmp_path: Path) -> None:
    one = describe(originals[1])
    with Shelf(tmp_path / "s.sqlite") as shelf:
        shelf.put("one", one)
    with Shelf(tmp_path / "s.sqlite") as shelf:
        back = shelf.get("one")
    for name in ("thumbnail", "points", "descriptors"):
        assert np.array_equal(getattr(one, name), getattr(back, name))
    assert back.size == originals[1].shape


def test_verdicts_by_eye_on_real_radiographs(fracatlas: Path, shelf: Shelf) -> None:
    """Files of FracAtlas, looked at one by one: copies, and other exposures of one limb or pictures from one plate."""
    with VERDICTS.open() as file:
        rows = list(csv.DictReader(file))
    places = {path.name: path for path in (fracatlas / "images").rglob("*.jpg")}
    names = sorted({row[side] for row in rows for side in ("first", "second")})
    found = search([places[name] for name in names], shelf)
    component = dict(zip(names, found.component, strict=True))
    told = {(row["first"], row["second"]): component[row["first"]] == component[row["second"]] for row in rows}
    wanted = {(row["first"], row["second"]): row["verdict"] == "same" for row in rows}
    assert {pair for pair in wanted if told[pair] != wanted[pair]} == set()
