from __future__ import annotations

import time

import numpy as np
import pytest

from callus.errors import CallusError
from callus.metrics.boxes import Box, after, boxes_from_map, map_to_input
from callus.preprocess import InputSpec, fit_affine, prepare
from callus.radiograph import Radiograph

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def heat(*regions: tuple[slice, slice, float], shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    array = np.zeros(shape, dtype=np.float32)
    for rows, columns, value in regions:
        array[rows, columns] = value
    return array


def test_cells_reach_from_edge_to_edge() -> None:
    boxes = boxes_from_map(heat((slice(2, 4), slice(1, 2), 0.75)), map_to_input(8), 0.5, (64, 64))
    assert boxes == (Box(8.0, 16.0, 8.0, 16.0, 0.75),)


def test_sorted_by_score_and_each_has_its_highest_value() -> None:
    array = heat((slice(0, 1), slice(0, 1), 0.6), (slice(4, 6), slice(4, 6), 0.7))
    array[5, 5] = 1.0
    boxes = boxes_from_map(array, map_to_input(8), 0.5, (64, 64))
    assert [box.score for box in boxes] == [1.0, pytest.approx(0.6)]
    assert (boxes[0].x, boxes[0].width) == (32.0, 16.0)


def test_corners_join_and_gaps_part() -> None:
    joined = heat((slice(0, 2), slice(0, 2), 1.0), (slice(2, 4), slice(2, 4), 1.0))
    parted = heat((slice(0, 2), slice(0, 2), 1.0), (slice(3, 5), slice(3, 5), 1.0))
    assert len(boxes_from_map(joined, map_to_input(8), 0.5, (64, 64))) == 1
    assert len(boxes_from_map(parted, map_to_input(8), 0.5, (64, 64))) == 2


def test_each_hill_has_a_box_about_its_top() -> None:
    array = heat((slice(2, 6), slice(0, 20), 0.28), shape=(8, 24))  # a ridge that joins everything at the threshold
    array[3:5, 2:5] = 0.8
    array[3, 3] = 0.9
    array[3:5, 12:14] = 0.5
    array[4, 18] = 0.35  # stays above its shoulder all along the ridge, and that leads to higher tops
    boxes = boxes_from_map(array, map_to_input(8), 0.25, (64, 192))
    assert [(box.x, box.y, box.width, box.height) for box in boxes] == [(16, 24, 24, 16), (96, 24, 16, 16)]
    assert [box.score for box in boxes] == pytest.approx([0.9, 0.5])


def test_two_tops_of_one_height_on_a_hill_are_one_box() -> None:
    array = heat((slice(2, 4), slice(1, 6), 0.75))
    array[2, 1] = array[3, 5] = 1.0
    (box,) = boxes_from_map(array, map_to_input(8), 0.5, (64, 64))
    assert (box.x, box.y, box.width, box.height) == (8, 16, 40, 16)


def each_hill_by_itself(heat: np.ndarray, threshold: float, shoulder: float) -> set[tuple[float, ...]]:
    """What a hill is, word by word: score, x, y, width and height in cells."""
    import cv2

    found = set()
    for row, column in np.ndindex(*heat.shape):
        top = heat[row, column]
        if top < np.float32(threshold) or top <= 0:
            continue
        level = max(np.float32(shoulder) * top, np.float32(threshold))
        _, labels = cv2.connectedComponents((heat >= level).astype(np.uint8), connectivity=8)
        hill = labels == labels[row, column]
        if heat[hill].max() == top:
            rows, columns = np.nonzero(hill)
            left, upper = columns.min(), rows.min()
            found.add((float(top), left, upper, columns.max() + 1 - left, rows.max() + 1 - upper))
    return found


@pytest.mark.parametrize("kind", ["noise", "levels", "smooth", "steep"])
@pytest.mark.parametrize(("threshold", "shoulder"), [(0.0, 0.6), (0.25, 0.6), (0.3, 0.9), (0.05, 1.0)])
def test_hills_are_what_they_are_said_to_be(kind: str, threshold: float, shoulder: float) -> None:
    import cv2

    random = np.random.default_rng(0)
    for _ in range(6):
        array = random.random((13, 17), dtype=np.float32)
        if kind == "levels":
            array = (np.round(array * 6) / 6).astype(np.float32)
        elif kind == "smooth":
            array = np.ascontiguousarray(cv2.GaussianBlur(array, (0, 0), 1.5) ** 4 * 8, np.float32).clip(0, 1)
        elif kind == "steep":
            array = array**20
        boxes = boxes_from_map(array, map_to_input(1), threshold, (13, 17), smallest_side=0.5, shoulder=shoulder)
        told = [(box.score, box.x, box.y, box.width, box.height) for box in boxes]
        assert len(told) == len(set(told))
        assert set(told) == each_hill_by_itself(array, threshold, shoulder)
        assert told == sorted(told, key=lambda one: (-one[0], one[2], one[1]))


def test_a_map_of_tops_takes_no_longer_than_its_cells() -> None:
    """The largest map that a bundle may have, of noise with 27,000 hills: 1 s. It took minutes with a look at all cells
    for each top."""
    array = np.random.default_rng(0).random((512, 512), dtype=np.float32) ** 20
    began = time.process_time()
    boxes = boxes_from_map(array, map_to_input(8), 0.0, (4096, 4096))
    assert time.process_time() - began < 8
    assert len(boxes) > 20_000


def test_tops_below_the_threshold_have_none_and_hills_end_at_it() -> None:
    array = heat((slice(0, 1), slice(0, 4), 0.48), (slice(4, 5), slice(0, 4), 0.4))
    array[0, 1] = 0.6
    (box,) = boxes_from_map(array, map_to_input(8), 0.5, (64, 64))
    assert (box.x, box.y, box.width, box.height, box.score) == (8, 0, 8, 8, pytest.approx(0.6))


def test_at_the_threshold_counts_and_zero_never_does() -> None:
    array = heat((slice(0, 1), slice(0, 1), 0.5))
    assert len(boxes_from_map(array, map_to_input(8), 0.5, (64, 64))) == 1
    assert boxes_from_map(array, map_to_input(8), np.nextafter(np.float32(0.5), np.float32(1)), (64, 64)) == ()
    assert len(boxes_from_map(array, map_to_input(8), 0.0, (64, 64))) == 1
    assert boxes_from_map(heat(), map_to_input(8), 0.0, (64, 64)) == ()


def test_cut_at_the_pictures_borders_and_tiny_rests_dropped() -> None:
    everywhere = heat((slice(0, 8), slice(0, 8), 1.0))
    assert boxes_from_map(everywhere, map_to_input(8), 0.5, (50, 60)) == (Box(0.0, 0.0, 60.0, 50.0, 1.0),)
    # A picture that ends one pixel inside the last column of cells.
    last = heat((slice(0, 8), slice(7, 8), 1.0))
    assert boxes_from_map(last, map_to_input(8), 0.5, (64, 57)) == ()
    assert boxes_from_map(last, map_to_input(8), 0.5, (64, 57), smallest_side=1.0)[0].width == 1.0
    # Where the picture itself is one pixel, a box of one pixel is no rest.
    assert len(boxes_from_map(everywhere, map_to_input(8), 0.5, (1, 1))) == 1


@pytest.mark.parametrize(
    "spec", [InputSpec(64, 64), InputSpec(96, 64), InputSpec(64, 64, fit="squash"), InputSpec(448, 448)]
)
@pytest.mark.parametrize("shape", [(200, 640), (640, 201), (333, 97), (64, 64), (40, 50), (3001, 2000)])
def test_a_bright_rectangle_comes_back_to_half_a_pixel(spec: InputSpec, shape: tuple[int, int]) -> None:
    """Through the real preprocessing, at stride 1: what the network sees at a place is what lies there."""
    affine = fit_affine(*shape, spec)
    # A rectangle whose edges fall on the edges of input pixels, so that resampling blurs nothing.
    left, top, right, bottom = _inside(affine, shape, spec)
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[round(top) : round(bottom), round(left) : round(right)] = 255
    made = prepare(Radiograph(pixels, None, "PNG", ""), spec)
    array = (made.array[0] - spec.low) / (spec.high - spec.low)
    (box,) = boxes_from_map(array, after(made.to_original, map_to_input(1)), 0.5, shape)
    half_cell = 0.5 * np.array([affine[0, 0], affine[1, 1]])  # an input pixel is the finest that the map can tell
    assert abs(box.x - round(left)) <= 0.5 + half_cell[0] + 1e-6
    assert abs(box.y - round(top)) <= 0.5 + half_cell[1] + 1e-6
    assert abs(box.x + box.width - round(right)) <= 0.5 + half_cell[0] + 1e-6
    assert abs(box.y + box.height - round(bottom)) <= 0.5 + half_cell[1] + 1e-6


@pytest.mark.parametrize("stride", [1, 8, 16])
@pytest.mark.parametrize("shape", [(640, 200), (200, 640), (1283, 900), (64, 64)])
@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_the_letterbox_is_undone_exactly(stride: int, shape: tuple[int, int], fit: str) -> None:
    """Against the letterbox worked out by hand: content rows and columns, margins rounded down."""
    spec = InputSpec(128, 128, fit=fit)  # type: ignore[arg-type]
    height, width = shape
    scale = min(128 / height, 128 / width)
    rows, columns = (128, 128) if fit == "squash" else (round(height * scale), round(width * scale))
    top, left = (128 - rows) // 2, (128 - columns) // 2
    to_original = after(fit_affine(height, width, spec), map_to_input(stride))
    i, j = 64 // stride, 64 // stride
    array = heat((slice(i, i + 1), slice(j, j + 1), 1.0), shape=(128 // stride, 128 // stride))
    (box,) = boxes_from_map(array, to_original, 0.5, shape, smallest_side=0.1)
    expected_x = [np.clip((edge - left) * width / columns, 0, width) for edge in (j * stride, (j + 1) * stride)]
    expected_y = [np.clip((edge - top) * height / rows, 0, height) for edge in (i * stride, (i + 1) * stride)]
    assert (box.x, box.x + box.width) == pytest.approx(expected_x, abs=1e-9)
    assert (box.y, box.y + box.height) == pytest.approx(expected_y, abs=1e-9)


def test_an_affine_that_turns_is_refused() -> None:
    turned = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(CallusError, match="turns or shears"):
        boxes_from_map(heat(), turned, 0.5, (8, 8))


def test_affines_chain_in_order() -> None:
    double = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    assert after(double, map_to_input(8)) @ [1, 1, 1] == pytest.approx(double @ [*(map_to_input(8) @ [1, 1, 1]), 1])
    assert np.array_equal(after(IDENTITY, double), double)


def test_a_round_trip_through_json_form() -> None:
    box = Box(1.5, 2.0, 3.0, 4.0, 0.5)
    assert Box.from_dict(box.as_dict()) == box


def _inside(affine: np.ndarray, shape: tuple[int, int], spec: InputSpec) -> tuple[float, float, float, float]:
    """A third to two thirds of the picture, moved to the edges of input pixels."""

    def edges(scale: float, offset: float, size: int) -> tuple[float, float]:
        to_input = [((share * size - 0.5) - offset) / scale + 0.5 for share in (1 / 3, 2 / 3)]
        first, last = (round(value) for value in to_input)
        return (first - 0.5) * scale + offset + 0.5, (max(last, first + 1) - 0.5) * scale + offset + 0.5

    left, right = edges(affine[0, 0], affine[0, 2], shape[1])
    top, bottom = edges(affine[1, 1], affine[1, 2], shape[0])
    return left, top, right, bottom
