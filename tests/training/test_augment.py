from __future__ import annotations

from dataclasses import replace

import numpy as np

from callus.training.augment import draw_affine, view_generator, warp
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


def test_every_second_picture_is_enlarged() -> None:
    choice = Augmentation(enlarge=1.0)
    factors = [draw_affine(choice, 64, 64, view_generator(0, "f" * 64, number))[0, 0] for number in range(400)]
    enlarged = np.array(factors) > 1
    assert 160 < enlarged.sum() < 240
    assert np.array(factors).max() <= 2
    assert np.quantile(np.array(factors)[enlarged], (0.1, 0.9)).round(1).tolist() == [1.1, 1.9]
