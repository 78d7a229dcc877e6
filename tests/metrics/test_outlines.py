from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callus.metrics.boxes import boxes_from_map, map_to_input
from callus.metrics.outlines import box_around, centres_inside, corners_of, coverage, inside, overlaps

L_SHAPE = [0.0, 0.0, 4.0, 0.0, 4.0, 1.0, 1.0, 1.0, 1.0, 3.0, 0.0, 3.0]
box = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2).map(lambda values: [float(one) for one in values])


def at(x: float, y: float, polygon: list[float]) -> bool:
    return bool(inside(np.array([x]), np.array([y]), polygon)[0, 0])


def test_overlaps_by_hand() -> None:
    first = np.array([[0.0, 0.0, 4.0, 4.0], [10.0, 10.0, 1.0, 1.0]])
    second = np.array([[2.0, 2.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 4.0, 4.0]])
    # Two by two of 16 + 16 - 4; itself; sides that touch share nothing.
    assert overlaps(first, second) == pytest.approx(np.array([[4 / 28, 1, 0], [0, 0, 0]]))
    assert overlaps(first[:0], second).shape == (0, 3)


@given(box, box)
def test_overlap_is_that_of_the_pixels_drawn(first: list[float], second: list[float]) -> None:
    drawn = [np.zeros((16, 16), bool), np.zeros((16, 16), bool)]
    for canvas, (x, y, width, height) in zip(drawn, (first, second), strict=True):
        canvas[int(y) : int(y + height), int(x) : int(x + width)] = True
    expected = (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()
    assert overlaps(np.array([first]), np.array([second]))[0, 0] == pytest.approx(expected)
    assert overlaps(np.array([second]), np.array([first]))[0, 0] == pytest.approx(expected)


def test_centres_count_up_to_the_border() -> None:
    boxes = np.array([[0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 2.0, 2.0], [3.1, 0.0, 2.0, 2.0]])
    assert centres_inside(boxes, np.array([[1.0, 1.0, 3.0, 3.0]])).ravel().tolist() == [True, True, False]


def test_points_in_a_shape_with_a_corner_inwards() -> None:
    assert [at(0.5, 2.5, L_SHAPE), at(3.5, 0.5, L_SHAPE), at(0.5, 0.5, L_SHAPE)] == [True] * 3
    assert [at(2.0, 2.0, L_SHAPE), at(-0.5, 0.5, L_SHAPE), at(4.5, 0.5, L_SHAPE), at(0.5, 3.5, L_SHAPE)] == [False] * 4
    assert [at(0.0, 0.0, L_SHAPE), at(4.0, 0.5, L_SHAPE), at(0.5, 3.0, L_SHAPE)] == [True, False, False]


@given(box, box)
def test_a_box_as_a_polygon_holds_what_the_box_holds(one: list[float], other: list[float]) -> None:
    x, y = np.arange(0, 17, 0.5), np.arange(0, 17, 0.5)
    found = inside(x, y, corners_of(one))
    expected = ((y >= one[1]) & (y < one[1] + one[3]))[:, None] & ((x >= one[0]) & (x < one[0] + one[2]))
    assert (found == expected).all()
    turned = corners_of(one)[2:] + corners_of(one)[:2]
    assert (inside(x, y, turned) == found).all()
    assert box_around(corners_of(one)) == one


@given(st.lists(st.floats(0, 2 * np.pi, allow_subnormal=False), min_size=3, max_size=8, unique=True))
def test_points_in_a_convex_shape_lie_left_of_all_its_sides(angles: list[float]) -> None:
    corners = np.array([(3 * np.cos(angle), 3 * np.sin(angle)) for angle in sorted(angles)])
    points = np.random.default_rng(0).uniform(-3.5, 3.5, (40, 2))
    side = np.roll(corners, -1, axis=0) - corners
    reach = points[:, None] - corners
    cross = side[:, 0] * reach[..., 1] - side[:, 1] * reach[..., 0]
    clear = (np.abs(cross) > 1e-9).all(axis=1)
    for point, expected in zip(points[clear], (cross > 0).all(axis=1)[clear], strict=True):
        assert at(*point, corners.ravel().tolist()) == expected


def test_coverage_is_shares_of_cells() -> None:
    # Cells of 8 pixels. One polygon over the first cell and the left half of the next; one over a quarter of another.
    polygons = [corners_of([0.0, 0.0, 12.0, 8.0]), corners_of([20.0, 12.0, 4.0, 4.0])]
    found = coverage(polygons, (3, 4), map_to_input(8))
    assert found.tolist() == [[1, 0.5, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0]]
    # A union: what two polygons both cover counts once.
    assert (coverage([*polygons, polygons[0]], (3, 4), map_to_input(8)) == found).all()
    assert coverage([], (3, 4), map_to_input(8)).sum() == 0


def test_coverage_lies_where_the_boxes_of_the_map_lie() -> None:
    heat = np.zeros((6, 7), dtype=np.float32)
    heat[2:4, 3:6] = 1.0
    affine = np.array([[5.0, 0.0, 3.25], [0.0, 7.0, -1.5]])
    (drawn,) = boxes_from_map(heat, affine, 0.5, (1000, 1000))
    assert (coverage([corners_of([drawn.x, drawn.y, drawn.width, drawn.height])], (6, 7), affine) == heat).all()


def test_coverage_of_a_slanted_shape_has_its_area() -> None:
    triangle = [3.0, 2.0, 50.5, 11.25, 20.75, 41.5]  # no side along the points that are sampled
    area = abs((50.5 - 3) * (41.5 - 2) - (20.75 - 3) * (11.25 - 2)) / 2
    assert coverage([triangle], (7, 8), map_to_input(8)).sum() * 64 == pytest.approx(area, rel=0.01)
