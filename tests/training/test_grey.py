from __future__ import annotations

from dataclasses import replace

import numpy as np

from callus.training.augment import view_generator
from callus.training.grey import draw_grey, vary_grey
from callus.training.recipe import Augmentation

STRONG = Augmentation(contrast=0.3, brightness=0.1, gamma=0.3, noise=0.05)


def varied(unit: np.ndarray, choice: Augmentation, sha256: str, number: int = 0) -> np.ndarray:
    """One view of grey values, drawn as for a file of this SHA-256."""
    drawn = draw_grey(choice, *unit.shape, view_generator(0, sha256, number))
    return vary_grey(unit, drawn)


def test_no_strength_leaves_the_picture_as_it_is() -> None:
    unit = np.random.default_rng(0).random((40, 56), dtype=np.float32)
    np.testing.assert_array_equal(varied(unit, Augmentation(), "c" * 64), unit)


def test_black_and_white_change_places_as_often_as_asked() -> None:
    unit = np.zeros((4, 4), np.float32)
    choice = Augmentation(inversion=0.25)
    turned = sum(varied(unit, choice, f"{n:016x}" + "0" * 48).mean() == 1 for n in range(400))
    assert 70 <= turned <= 130


def test_grey_values_stay_in_their_range() -> None:
    unit = np.random.default_rng(1).random((32, 32), dtype=np.float32)
    for number in range(20):
        made = varied(unit, STRONG, "e" * 64, number)
        assert made.dtype == np.float32
        assert 0 <= made.min() <= made.max() <= 1
        assert np.abs(made - unit).max() > 0.01


def test_a_bent_grey_scale_keeps_its_order_and_its_ends() -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32)[np.newaxis]
    bent = [varied(unit, Augmentation(tone=0.5), "a" * 64, number)[0] for number in range(20)]
    assert all((np.diff(one) >= 0).all() and one[0] == 0 and one[-1] == 1 for one in bent)
    assert max(np.abs(one - unit[0]).max() for one in bent) > 0.1


def test_edges_are_made_softer_and_harder() -> None:
    unit = np.full((32, 32), 0.3, np.float32)
    unit[:, 16:] = 0.7
    steps = [
        np.abs(np.diff(varied(unit, Augmentation(sharpness=2.0), "b" * 64, number)[16])).max() for number in range(30)
    ]
    assert min(steps) < 0.25  # 0.4 as it is
    assert max(steps) > 0.5


def test_sides_are_cut_by_an_eighth_at_most() -> None:
    for number in range(20):
        unit = varied(np.ones((80, 80), np.float32), Augmentation(border=1.0), "c" * 64, number)
        assert (unit[10:70, 10:70] == 1).all()
        assert unit[0, 0] <= 0.1


def test_marks_are_bright_small_and_anywhere() -> None:
    drawn = np.zeros((128, 128))
    for number in range(60):
        unit = varied(np.zeros((128, 128), np.float32), Augmentation(marks=1.0), "d" * 64, number)
        assert 0 <= unit.min() <= unit.max() <= 1
        assert (unit > 0.55).mean() < 0.2
        drawn += unit > 0.55
    quarters = [drawn[top : top + 64, left : left + 64].sum() for top in (0, 64) for left in (0, 64)]
    assert min(quarters) > 0.1 * sum(quarters)


def test_each_strength_acts_as_often_as_asked_and_leaves_what_others_draw() -> None:
    unit = np.random.default_rng(1).random((48, 48), dtype=np.float32)
    plain = Augmentation(contrast=0.2)
    for change in ({"marks": 0.3}, {"border": 0.3}, {"sharpness": 1.0}, {"tone": 0.3}):
        changed = 0
        for number in range(100):
            before = varied(unit, plain, "e" * 64, number)
            after = varied(unit, replace(plain, **change), "e" * 64, number)
            changed += bool((before != after).any())
        expected = {"tone": 100, "sharpness": 50}.get(next(iter(change)), 30)
        assert abs(changed - expected) <= 15, change
