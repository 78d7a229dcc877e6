from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callus.metrics import detection
from callus.metrics.detection import NO_BOX, NO_FRACTURE, Detections, average_precision, froc, froc_curve
from callus.metrics.resampling import Interval, Resampling

RATES = (0.0, 0.1, 0.25, 0.5, 1.0)


def made(images: list[tuple[list[tuple[float, bool, bool]], list[float]]]) -> Detections:
    """Images of boxes (score, hits, matched) and fractures (score of the best box that hits)."""
    boxes = [(place, *one) for place, (drawn, _) in enumerate(images) for one in drawn]
    fractures = [(place, score) for place, (_, scores) in enumerate(images) for score in scores]
    return Detections(
        len(images),
        np.array([one[0] for one in boxes], dtype=np.int64),
        np.array([one[1] for one in boxes], dtype=np.float64),
        np.array([one[2] for one in boxes], dtype=bool),
        np.array([one[3] for one in boxes], dtype=bool),
        np.array([one[0] for one in fractures], dtype=np.int64),
        np.array([one[1] for one in fractures], dtype=np.float64),
    )


# Image 0 has fractures A (hit at 0.9) and B (never hit), and a false box. Image 1 has C, hit at 0.5 and again at 0.4.
# Images 2 and 3 are not fractured and have a false box each.
HAND = made(
    [
        ([(0.9, True, True), (0.6, False, False)], [0.9, -np.inf]),
        ([(0.5, True, True), (0.4, True, False)], [0.5]),
        ([(0.8, False, False)], []),
        ([(0.3, False, False)], []),
    ]
)


def test_froc_by_hand() -> None:
    # By threshold: 0.9 finds A (1 of 3) with 0 false boxes in 4 images; 0.8 adds a false one; 0.6 another; 0.5 finds C
    # (2 of 3) at 2 in 4; 0.4 hits C again, which counts as nothing; 0.3 brings the third false one.
    x, y = froc_curve(HAND)
    assert x.tolist() == [0, 0, 0.25, 0.5, 0.5, 0.5, 0.75]
    assert y == pytest.approx(np.array([0, 1, 1, 1, 2, 2, 2]) / 3)
    found = froc(HAND, RATES, Resampling(range(4), draws=200))
    assert {rate: one.value for rate, one in found.items()} == pytest.approx(
        {0.0: 1 / 3, 0.1: 1 / 3, 0.25: 1 / 3, 0.5: 2 / 3, 1.0: 2 / 3}
    )


def test_average_precision_by_hand() -> None:
    # By falling score: right (precision 1), false, false, right (2 of 4), C again (false here), false. Recall rises by
    # 1/3 at precision 1 and by 1/3 at 2/4, and B is never found: 1/3 + 1/6.
    assert average_precision(HAND, Resampling(range(4), draws=200)).value == pytest.approx(1 / 3 + 1 / 6)


def test_precision_is_raised_to_what_comes_after() -> None:
    # Right, false, right, right: at recall 2/3 the precision 2/3 is raised to the 3/4 that recall 1 has.
    found = made([([(0.9, True, True), (0.8, False, False), (0.7, True, True), (0.6, True, True)], [0.9, 0.7, 0.6])])
    assert average_precision(found, Resampling(["one"], draws=200)).value == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)


def test_boxes_of_equal_score_come_together() -> None:
    for drawn in ([(0.5, True, True), (0.5, False, False)], [(0.5, False, False), (0.5, True, True)]):
        found = made([(drawn, [0.5]), ([], [])])
        resampling = Resampling(range(2), draws=200)
        assert average_precision(found, resampling).value == 0.5
        assert [one.value for one in froc(found, (0.4, 0.5), resampling).values()] == [0.0, 1.0]


def test_a_rate_that_is_no_binary_fraction_is_met() -> None:
    # 3 false boxes in 30 images are 0.1 an image; 0.1 * 30 is more than 3 in binary, 0.29 * 100 less than 29.
    for rate, images, false in ((0.1, 30, 3), (0.29, 100, 29)):
        found = made(
            [([(0.9, False, False)], [])] * false + [([(0.5, True, True)], [0.5])] + [([], [])] * (images - false - 1)
        )
        assert froc(found, (rate,), Resampling(range(images), draws=100))[rate].value == 1.0
        assert froc(found, (rate - 0.01,), Resampling(range(images), draws=100))[rate - 0.01].value == 0.0


scores = st.integers(1, 6).map(lambda value: value / 8)
image = st.tuples(
    st.lists(st.tuples(scores, st.booleans(), st.booleans()), max_size=4),
    st.lists(st.one_of(st.just(-np.inf), scores), max_size=2),
)


def plain_froc(found: Detections, rate: float) -> float:
    best = 0.0
    for threshold in {*found.box_score.tolist(), *found.fracture_score[np.isfinite(found.fracture_score)].tolist()}:
        if (found.box_score[~found.box_hits] >= threshold).sum() <= rate * found.images:
            best = max(best, float((found.fracture_score >= threshold).mean()))
    return best


def plain_average_precision(found: Detections) -> float:
    points = []
    for threshold in np.unique(found.box_score)[::-1]:
        called = found.box_score >= threshold
        points.append((found.box_matched[called].sum() / len(found.fracture_image), found.box_matched[called].mean()))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(precision for later, precision in points if later >= recall)
        before = recall
    return float(area)


def repeated(found: Detections, times: np.ndarray) -> Detections:
    """The images as often as they were drawn, each group being one image."""
    order = np.repeat(np.arange(found.images), times)
    boxes = [np.flatnonzero(found.box_image == one) for one in order]
    fractures = [np.flatnonzero(found.fracture_image == one) for one in order]
    chosen, found_too = np.concatenate(boxes).astype(int), np.concatenate(fractures).astype(int)
    return Detections(
        len(order),
        np.repeat(np.arange(len(order)), [len(one) for one in boxes]),
        found.box_score[chosen],
        found.box_hits[chosen],
        found.box_matched[chosen],
        np.repeat(np.arange(len(order)), [len(one) for one in fractures]),
        found.fracture_score[found_too],
    )


@settings(max_examples=60)
@given(st.lists(image, min_size=1, max_size=6), st.integers(0, 1000))
def test_every_draw_is_what_its_images_give_one_by_one(
    images: list[tuple[list[tuple[float, bool, bool]], list[float]]], seed: int
) -> None:
    found = made(images)
    if found.missing:
        return
    seen: list[Callable[[np.ndarray], np.ndarray]] = []

    def kept(_: Resampling, figures: Callable[[np.ndarray], np.ndarray], *__: object, **___: object) -> list[object]:
        seen.append(figures)
        count = figures(np.ones((1, len(images)), np.uint8)).shape[1]
        return [Interval(0.0, 0.0, 0.0, "")] * count

    resampling = Resampling(range(len(images)), draws=100, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "drawn_intervals", kept)
        froc(found, RATES, resampling)
        average_precision(found, resampling)
    times = next(iter(resampling.blocks(1)))[:5]
    by_rate, area = seen[0](times), seen[1](times)[:, 0]
    for row, drawn in enumerate(times):
        again = repeated(found, drawn)
        if not again.fracture_image.size:
            assert np.isnan(by_rate[row]).all()
            assert np.isnan(area[row])
            continue
        assert by_rate[row] == pytest.approx([plain_froc(again, rate) for rate in RATES])
        assert area[row] == pytest.approx(plain_average_precision(again))


def test_intervals_hold_the_value_and_come_from_groups() -> None:
    generator = np.random.default_rng(0)
    images = []
    for _ in range(40):
        fractures = np.where(generator.random(generator.integers(0, 3)) < 0.7, generator.random(), -np.inf)
        right = [(float(one), True, True) for one in fractures if np.isfinite(one)]
        wrong = [(float(one), False, False) for one in generator.random(generator.integers(0, 3)) * 0.7]
        images.append((right + wrong, fractures.tolist()))
    copies = [one for one in images for _ in range(5)]
    found = made(copies)
    by_group, by_file = Resampling(np.repeat(np.arange(40), 5), draws=400), Resampling(range(200), draws=400)
    pairs = [(average_precision(found, by_group), average_precision(found, by_file))]
    pairs += zip(froc(found, RATES, by_group).values(), froc(found, RATES, by_file).values(), strict=True)
    for groups, files in pairs:
        assert groups.value == files.value
        assert groups.low <= groups.value <= groups.high  # type: ignore[operator]
    group_width, file_width = (sum(one[place].high - one[place].low for one in pairs) for place in (0, 1))  # type: ignore[operator]
    assert group_width > 1.7 * file_width  # five copies: the square root of five


def test_where_no_draw_differs_a_share_still_has_its_interval() -> None:
    found = made([([(0.9, True, True)], [0.9])] * 20)
    resampling = Resampling(range(20), draws=100)
    one = froc(found, (0.5,), resampling)[0.5]
    # Wilson's interval of 20 in 20 begins at 20 / (20 + 1.96 ** 2).
    assert (one.value, one.low, one.high) == pytest.approx((1.0, 20 / (20 + 1.959964**2), 1.0))
    assert average_precision(found, resampling).low is None
    none = froc(made([([(0.9, False, False)], [-np.inf])] * 20), (1.0,), resampling)[1.0]
    assert (none.value, none.low, none.high) == pytest.approx((0.0, 0.0, 1 - 20 / (20 + 1.959964**2)))


@pytest.mark.parametrize(
    ("images", "reason"), [([], NO_FRACTURE), ([([(0.5, False, False)], [])], NO_FRACTURE), ([([], [-np.inf])], NO_BOX)]
)
def test_what_is_not_defined_is_none(images: list, reason: str) -> None:
    found, resampling = made(images), Resampling(range(len(images)), draws=100)
    assert {one.reason for one in froc(found, RATES, resampling).values()} == {reason}
    assert average_precision(found, resampling).reason == reason
    assert [one.size for one in froc_curve(found)] == [0, 0]
