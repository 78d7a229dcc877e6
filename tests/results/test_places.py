from __future__ import annotations

from pathlib import Path

from callus.archive.listing import Input
from callus.results.places import picture_names, result_stems


def test_pictures_of_one_stem_get_names_of_their_own(tmp_path: Path) -> None:
    names = ["hand.jpg", "hand.png", "HAND.dcm", "foot.dcm", "p1/hand.jpg", "1.2.840.7"]
    inputs = [Input(tmp_path / name, Path(name)) for name in names]
    inputs.append(Input(tmp_path / "other" / "hand.jpg", Path("hand.jpg")))
    out = tmp_path / "out"
    assert [path.relative_to(out).as_posix() for path in picture_names(inputs, out)] == [
        "hand.jpg.png",
        "hand.png.png",
        "HAND.dcm.png",
        "foot.png",
        "p1/hand.png",
        "1.2.840.png",
        "hand.jpg-2.png",
    ]


def test_results_of_one_stem_get_names_of_their_own(tmp_path: Path) -> None:
    long = "1." * 110
    names = ["a.dcm", "A.ima", "b.dcm", "b.callus-sr.dcm", f"{long}1", f"{long}2"]
    inputs = [Input(tmp_path / name, Path(name)) for name in names]
    stems = [path.name for path in result_stems(inputs, tmp_path, (".callus-sr.dcm", ".callus-sc.dcm"))]
    assert stems[:4] == ["a.dcm", "A.ima", "b.dcm", "b.callus-sr"]
    assert len(set(stems)) == 6
    assert all(len(stem) < 200 for stem in stems)
