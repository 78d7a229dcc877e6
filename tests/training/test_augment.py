from __future__ import annotations

from dataclasses import replace

import numpy as np

from callus.training.augment import (
    bend_tone,
    cut_sides,
    draw_affine,
    draw_marks,
    vary_grey,
    vary_sharpness,
    view_generator,
    warp,
)
from callus.training.recipe import Augmentation

STRONG = Augmentation(
    rotation=40, shift=0.1, shear=10, zoom=0.2, flip=True, contrast=0.3, brightness=0.1, gamma=0.3, noise=0.05
)


def test_a_view_follows_from_seed_picture_and_number_alone() -> None:
    draws = [
        draw_affine(STRONG, 64, 96, view_generator(seed, sha, view))
        for seed, sha, view in [
            (0, "a" * 64, 1),
            (0, "a" * 64, 1),
            (1, "a" * 64, 1),
            (0, "b" * 64, 1),
            (0, "a" * 64, 2),
        ]
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert all(not np.allclose(draws[0], other) for other in draws[2:])


def test_no_strength_leaves_the_picture_as_it_is() -> None:
    plain = Augmentation()
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 56)).astype(np.uint16)
    affine = draw_affine(plain, 40, 56, view_generator(0, "c" * 64, 0))
    np.testing.assert_allclose(affine, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_array_equal(warp(pixels, affine, plain, *pixels.shape), pixels)
    unit = (pixels / 65535).astype(np.float32)
    np.testing.assert_array_equal(vary_grey(unit, plain, view_generator(0, "c" * 64, 0)), unit)


def test_a_mark_moves_to_where_the_affine_says() -> None:
    choice = replace(STRONG, flip=True)
    for number in range(8):
        affine = draw_affine(choice, 200, 160, view_generator(3, "d" * 64, number))
        pixels = np.zeros((200, 160), np.uint8)
        pixels[95:104, 72:81] = 255  # centred on (x 76, y 99)
        moved = warp(pixels, affine, choice, *pixels.shape).astype(np.float64)
        rows, columns = np.indices(moved.shape)
        centre = np.array([(moved * columns).sum(), (moved * rows).sum()]) / moved.sum()
        np.testing.assert_allclose(centre, affine @ (76, 99, 1), atol=0.1)


def test_black_and_white_change_places_as_often_as_asked() -> None:
    unit = np.zeros((4, 4), np.float32)
    choice = Augmentation(inversion=0.25)
    turned = sum(vary_grey(unit, choice, view_generator(0, f"{n:016x}" + "0" * 48, 0)).mean() == 1 for n in range(400))
    assert 70 <= turned <= 130


def test_grey_values_stay_in_their_range() -> None:
    unit = np.random.default_rng(1).random((32, 32), dtype=np.float32)
    for number in range(20):
        varied = vary_grey(unit, STRONG, view_generator(0, "e" * 64, number))
        assert varied.dtype == np.float32
        assert 0 <= varied.min() <= varied.max() <= 1
        assert np.abs(varied - unit).max() > 0.01


def test_every_second_picture_is_enlarged() -> None:
    choice = Augmentation(enlarge=1.0)
    factors = [draw_affine(choice, 64, 64, view_generator(0, "f" * 64, number))[0, 0] for number in range(400)]
    enlarged = np.array(factors) > 1
    assert 160 < enlarged.sum() < 240
    assert np.array(factors).max() <= 2
    assert np.quantile(np.array(factors)[enlarged], (0.1, 0.9)).round(1).tolist() == [1.1, 1.9]


def test_a_bent_grey_scale_keeps_its_order_and_its_ends() -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32)[np.newaxis]
    bent = [bend_tone(unit, 0.5, view_generator(0, "a" * 64, number))[0] for number in range(20)]
    assert all((np.diff(one) >= 0).all() and one[0] == 0 and one[-1] == 1 for one in bent)
    assert max(np.abs(one - unit[0]).max() for one in bent) > 0.1


def test_edges_are_made_softer_and_harder() -> None:
    unit = np.full((32, 32), 0.3, np.float32)
    unit[:, 16:] = 0.7
    steps = [
        np.abs(np.diff(vary_sharpness(unit, 2.0, view_generator(0, "b" * 64, number))[16])).max()
        for number in range(30)
    ]
    assert min(steps) < 0.25  # 0.4 as it is
    assert max(steps) > 0.5


def test_sides_are_cut_by_an_eighth_at_most() -> None:
    for number in range(20):
        unit = np.ones((80, 80), np.float32)
        cut_sides(unit, view_generator(0, "c" * 64, number))
        assert (unit[10:70, 10:70] == 1).all()
        assert unit[0, 0] <= 0.1


def test_marks_are_bright_small_and_anywhere() -> None:
    drawn = np.zeros((128, 128))
    for number in range(60):
        unit = np.zeros((128, 128), np.float32)
        draw_marks(unit, view_generator(0, "d" * 64, number))
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
            before = vary_grey(unit, plain, view_generator(0, "e" * 64, number))
            after = vary_grey(unit, replace(plain, **change), view_generator(0, "e" * 64, number))
            changed += bool((before != after).any())
        expected = {"tone": 100, "sharpness": 50}.get(next(iter(change)), 30)
        assert abs(changed - expected) <= 15, change
