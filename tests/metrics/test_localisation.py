from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callus.errors import CallusError
from callus.metrics.boxes import Box, map_to_input
from callus.metrics.localisation import Localisation, Located, detections, localisation
from callus.metrics.outlines import corners_of
from callus.metrics.resampling import Interval

TRIANGLE = [10.0, 10.0, 20.0, 10.0, 10.0, 20.0]


def heat(*cells: tuple[int, int]) -> np.ndarray:
    array = np.zeros((4, 4), dtype=np.float32)
    for row, column in cells:
        array[row, column] = 0.8
    return array


def located(label: int, *boxes: Box, group: str = "", **more: object) -> Located:
    return Located(group or str(id(boxes)), label, boxes, **more)  # type: ignore[arg-type]


def figures(found: Localisation) -> list[Interval]:
    return [value for value in vars(found).values() if isinstance(value, Interval)] + list(found.froc.values())


def measured(*images: Located, draws: int = 200) -> Localisation:
    named = [Located(**{**vars(one), "group": f"g{place}"}) for place, one in enumerate(images)]
    return localisation(named, 0.5, draws=draws)


def test_the_pointing_game_is_played_on_polygons() -> None:
    # (12, 12) lies in the triangle, (18, 18) in its box only.
    inside = located(1, peak=(12.0, 12.0), polygons=[TRIANGLE], reference=[[10.0, 10.0, 10.0, 10.0]])
    beside = located(1, peak=(18.0, 18.0), polygons=[TRIANGLE], reference=[[10.0, 10.0, 10.0, 10.0]])
    in_box = located(1, peak=(18.0, 18.0), reference=[[10.0, 10.0, 10.0, 10.0]])
    normal = located(0, peak=(18.0, 18.0))
    assert measured(inside, beside, in_box, normal).pointing_game.value == pytest.approx(2 / 3)
    second = located(1, peak=(41.0, 41.0), polygons=[TRIANGLE, corners_of([40.0, 40.0, 5.0, 5.0])])
    assert measured(inside, second).pointing_game.value == 1.0


def test_a_peak_is_a_pixels_centre() -> None:
    # The pixel 9 reaches from 9 to 10 and has its centre at 9.5, left of a box from 9.6; that from 9.4 has it in.
    for left, expected in ((9.6, 0.0), (9.4, 1.0)):
        image = located(1, peak=(9.0, 9.0), reference=[[left, 0.0, 20.0, 20.0]])
        assert measured(image, image).pointing_game.value == expected


def test_the_top_box_by_hand() -> None:
    fractures = [[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 10.0, 10.0]]
    images = [
        # The top box (not the first) has its centre in one of two fractures: 5 * 10 of 100 + 100 - 50 overlap.
        located(1, Box(90, 90, 5, 5, 0.3), Box(5, 0, 10, 10, 0.9), reference=fractures),
        # Centre in a fracture, but 4 of 100 pixels is no overlap to speak of.
        located(1, Box(4, 4, 2, 2, 0.9), reference=[fractures[0]]),
        # Overlaps by 6 * 10 of 100 + 200 - 60 = 0.25 with the centre outside.
        located(1, Box(4, 0, 20, 10, 0.9), reference=[fractures[0]]),
        # No box at all: three fractures are missed.
        located(1, reference=[*fractures, [60.0, 60.0, 3.0, 3.0]]),
        located(0, Box(0, 0, 10, 10, 0.9)),
    ]
    found = measured(*images)
    assert (found.images, found.fractured, found.fractures, found.boxes) == (5, 4, 7, 5)
    assert found.fractures_hit.value == pytest.approx(2 / 7)
    assert found.images_hit.value == pytest.approx(2 / 4)
    assert found.fractures_overlapped.value == pytest.approx(1 / 7)
    assert found.images_overlapped.value == pytest.approx(1 / 4)
    assert found.top_box_iou.value == pytest.approx((50 / 150 + 4 / 100 + 60 / 240 + 0) / 4)


def test_froc_and_average_precision_of_radiographs_by_hand() -> None:
    # Four images. The first has two fractures, A and B; the second C; the others none.
    first = located(
        1,
        Box(0, 0, 10, 10, 0.9),  # A itself
        Box(50, 50, 5, 5, 0.6),  # false
        reference=[[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 10.0, 10.0]],
    )
    second = located(
        1,
        Box(20, 20, 10, 8, 0.5),  # C by 80 of 100
        Box(20, 20, 10, 9, 0.4),  # C better, but C is taken
        reference=[[20.0, 20.0, 10.0, 10.0]],
    )
    found = measured(first, second, located(0, Box(1, 1, 5, 5, 0.8)), located(0, Box(1, 1, 5, 5, 0.3)))
    # False boxes at 0.8, 0.6 and 0.3. Up to 0.25 an image one may be let in: only A (0.9) lies above the second. Up to
    # 0.5 two may: C (0.5) lies above the third.
    assert [one.value for one in found.froc.values()] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert list(found.froc) == [0.1, 0.25, 0.5, 1.0]
    # Right, false, false, right: recall 1/3 at precision 1, 2/3 at 2/4.
    assert found.ap50.value == pytest.approx(1 / 3 + 1 / 6)
    assert found.froc_curve[0] == (0.0, 0.0)
    assert found.froc_curve[-1] == pytest.approx((0.75, 2 / 3))


def test_a_box_takes_the_fracture_it_overlaps_most_and_each_once() -> None:
    # Both boxes overlap both fractures by half or more; the second has to take what the first left.
    image = located(
        1,
        Box(0, 0, 10, 10, 0.5),
        Box(1, 0, 10, 10, 0.9),
        Box(1, 0, 10, 10, 0.4),
        reference=[[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 9.0, 10.0]],
    )
    found = detections([image])
    assert found.box_score.tolist() == [0.9, 0.5, 0.4]
    assert found.box_matched.tolist() == [True, True, False]
    assert found.box_hits.all()
    assert found.fracture_score.tolist() == [0.9, 0.9]
    half = located(1, Box(0, 0, 10, 5, 0.5), reference=[[0.0, 0.0, 10.0, 10.0]])
    less = located(1, Box(0, 0, 10, 4.99, 0.5), reference=[[0.0, 0.0, 10.0, 10.0]])
    assert detections([half, less]).box_matched.tolist() == [True, False]


def test_the_maps_overlap_is_that_of_areas() -> None:
    # Cells of 8 pixels: two are called, the polygon covers half of one and a quarter of one that is not called.
    polygons = [corners_of([0.0, 0.0, 8.0, 4.0]), corners_of([16.0, 16.0, 4.0, 4.0])]
    first = located(1, heat=heat((0, 0), (0, 1)), polygons=polygons, map_to_original=map_to_input(8))
    # Only boxes: they stand for the polygons. Exactly one cell.
    second = located(1, heat=heat((1, 1)), reference=[[8.0, 8.0, 8.0, 8.0]], map_to_original=map_to_input(8))
    normal = located(0, heat=heat((1, 1)), map_to_original=map_to_input(8))
    assert measured(first, second, normal).map_iou.value == pytest.approx((0.5 / 2.25 + 1) / 2)
    images = [Located(**{**vars(one), "group": str(place)}) for place, one in enumerate((first, second))]
    assert localisation(images, 0.81, draws=100).map_iou.value == 0.0
    # Cells of value 0 never count, whatever the threshold.
    assert localisation(images, 0.0, draws=100).map_iou.value == pytest.approx((0.5 / 2.25 + 1) / 2)


def test_polygons_without_boxes_have_boxes_around_them() -> None:
    found = measured(located(1, Box(10, 10, 10, 10, 0.5), polygons=[TRIANGLE]), located(0))
    assert (found.fractures, found.top_box_iou.value) == (1, 1.0)


def test_the_unplaced_do_not_count_and_references_of_the_sound_are_not_looked_at() -> None:
    right = located(1, Box(0, 0, 10, 10, 0.5), reference=[[0.0, 0.0, 10.0, 10.0]], peak=(3.0, 3.0))
    unplaced = located(1, Box(0, 0, 10, 10, 0.9), peak=(3.0, 3.0))
    sound = located(0, Box(0, 0, 10, 10, 0.4), reference=[[0.0, 0.0, 10.0, 10.0]], peak=(3.0, 3.0))
    found = measured(right, unplaced, sound)
    assert (found.images, found.fractured, found.unplaced, found.fractures, found.boxes) == (2, 1, 1, 1, 2)
    assert (found.pointing_game.value, found.ap50.value, found.images_hit.value) == (1.0, 1.0, 1.0)
    assert detections([sound]).box_hits.tolist() == [False]


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([], "no image is fractured"),
        ([located(0, Box(0, 0, 1, 1, 0.5), peak=(1.0, 1.0), heat=heat((0, 0)))], "no image is fractured"),
        ([located(1, Box(0, 0, 1, 1, 0.5), peak=(1.0, 1.0)), located(0)], "no fractured image has a reference box"),
    ],
)
def test_nothing_to_find(images: list[Located], reason: str) -> None:
    found = measured(*images)
    for one in figures(found):
        assert one.value is None
        assert reason in one.reason
    assert found.froc_curve == ()
    json.dumps(found.as_dict(), allow_nan=False)


def test_no_box_and_no_map_at_all() -> None:
    found = measured(located(1, reference=[[0.0, 0.0, 10.0, 10.0]]), located(0))
    by_boxes = (found.fractures_hit, found.images_hit, found.fractures_overlapped, found.images_overlapped)
    for one in (*by_boxes, found.top_box_iou, found.ap50, *found.froc.values()):
        assert (one.value, one.reason) == (None, "no box was predicted")
    for one in (found.pointing_game, found.map_iou):
        assert (one.value, one.reason) == (None, "no fractured image has a map")


def simulated(groups: int, copies: int, *, by_file: bool = False) -> list[Located]:
    generator = np.random.default_rng(7)
    images = []
    for group in range(groups):
        label = int(generator.random() < 0.5)
        reference = [[float(one) for one in (*generator.uniform(0, 80, 2), 20, 20)] for _ in range(label * 2)]
        boxes = [Box(x + generator.normal(0, 8), y, w, h, float(generator.random())) for x, y, w, h in reference]
        boxes += [
            Box(*generator.uniform(0, 80, 2), 20, 20, float(generator.random() / 2))
            for _ in range(generator.integers(0, 3))
        ]
        peak = (
            tuple(generator.uniform(0, 60, 2))
            if not reference
            else (reference[0][0] + generator.normal(10, 10), reference[0][1] + 5)
        )
        picture = generator.random((8, 8)).astype(np.float32)
        for copy in range(copies):
            name = f"{group}-{copy}" if by_file else str(group)
            images.append(Located(name, label, tuple(boxes), reference, [], peak, picture, map_to_input(16)))
    return images


def test_intervals_hold_the_value_and_come_from_groups() -> None:
    found = [localisation(simulated(40, 5, by_file=by_file), 0.5, draws=400) for by_file in (False, True)]
    widths = np.zeros(2)
    for groups, files in zip(figures(found[0]), figures(found[1]), strict=True):
        assert groups.value == files.value
        for place, one in enumerate((groups, files)):
            assert one.low is not None, one
            assert one.low <= one.value <= one.high  # type: ignore[operator]
            widths[place] += (one.high or 0) - one.low
    assert widths[0] > 1.7 * widths[1]  # five copies: the square root of five
    told = json.loads(json.dumps(found[0].as_dict(), allow_nan=False))
    assert told["froc"]["0.25"]["value"] == found[0].froc[0.25].value
    assert told["froc_curve"][0] == [0.0, 0.0]


def test_the_seed_decides_and_the_order_does_not() -> None:
    images = simulated(20, 2)
    first = localisation(images, 0.5, draws=200, seed=1)
    assert localisation(images, 0.5, draws=200, seed=1) == first
    assert localisation(images[::-1], 0.5, draws=200, seed=1).ap50 == first.ap50
    assert localisation(images, 0.5, draws=200, seed=2).ap50.low != first.ap50.low


coordinate = st.integers(0, 12).map(float)
side = st.integers(1, 8).map(float)
rectangle = st.tuples(coordinate, coordinate, side, side)
radiograph = st.builds(
    lambda group, label, boxes, reference: Located(
        str(group),
        int(label),
        tuple(Box(*place, score / 4) for place, score in boxes),
        [list(one) for one in reference],
    ),
    st.integers(0, 3),
    st.booleans(),
    st.lists(st.tuples(rectangle, st.integers(0, 4)), max_size=4),
    st.lists(rectangle, max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(radiograph, max_size=8))
def test_whatever_comes_figures_are_shares_and_froc_rises(images: list[Located]) -> None:
    found = localisation(images, 0.5, rates=(0.0, 0.5, 1.0, 100.0), draws=100)
    json.dumps(found.as_dict(), allow_nan=False)
    for one in figures(found):
        assert (one.value is None) <= bool(one.reason)
        if one.value is not None:
            assert -1e-12 <= one.value <= 1 + 1e-12
        if one.low is not None:
            assert one.low <= (one.value or 0.0) <= (one.high or 0.0)
    sensitivities = [one.value for one in found.froc.values() if one.value is not None]
    assert sensitivities == sorted(sensitivities)
    curve = np.array(found.froc_curve).reshape(-1, 2)
    assert (np.diff(curve, axis=0) >= 0).all()
    if found.fractures_hit.value is not None and len(curve):
        # With every box let in, all that the top boxes hit is found.
        assert sensitivities[-1] >= found.fractures_hit.value - 1e-12
        assert curve[-1, 1] == pytest.approx(sensitivities[-1])
    # What is predicted exactly is found wholly.
    exact = [
        Located(one.group, one.label, tuple(Box(*box, 0.5) for box in one.fractures), one.reference) for one in images
    ]
    best = localisation(exact, 0.5, rates=(0.0,), draws=100)
    if best.ap50.value is not None:
        assert best.ap50.value == pytest.approx(1.0)
        assert best.froc[0.0].value == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: located(2), "image 2: the label is 2"),
        (lambda: located(1, Box(0, 0, 0, 5, 0.5)), "a predicted box is"),
        (lambda: located(1, Box(0, 0, 5, 5, np.nan)), "a predicted box is"),
        (lambda: located(1, reference=[[0.0, 0.0, 5.0]]), "a reference box is"),
        (lambda: located(1, reference=[[0.0, 0.0, 5.0, -1.0]]), "a reference box is"),
        (lambda: located(1, polygons=[[0.0, 0.0, 5.0, 5.0]]), "a polygon is"),
        (lambda: located(1, polygons=[[0.0, 0.0, 5.0, 5.0, np.inf, 1.0]]), "a polygon is"),
        (lambda: located(1, peak=(np.nan, 0.0)), "the map's peak is"),
        (lambda: located(1, map_to_original=np.zeros((2, 3))), "affine is flat"),
    ],
)
def test_wrong_images(make: Callable[[], Located], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        measured(located(0), make())


def test_wrong_options() -> None:
    with pytest.raises(CallusError, match="the map's threshold is 50"):
        localisation([], 50)
    with pytest.raises(CallusError, match="the rates of false boxes"):
        localisation([], 0.5, rates=(-0.1,))
    with pytest.raises(CallusError, match="no group"):
        localisation([Located(None, 0)], 0.5)  # type: ignore[arg-type]
