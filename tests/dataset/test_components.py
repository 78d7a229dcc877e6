"""A few files stand for a component, and another of its pairs is another opinion."""

from __future__ import annotations

import numpy as np
import pytest

from callus.dataset.components import Components


def placed(files: list[int], vectors: np.ndarray) -> Components:
    """Places of some files, of one vector each."""
    components = Components(max(files) + 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    components.place(files, np.repeat(unit[:, np.newaxis], 4, axis=1).astype(np.float32))
    return components


@pytest.fixture
def two() -> Components:
    """Two components of 500 files."""
    components = placed(list(range(1000)), np.random.default_rng(1).normal(size=(1000, 32)))
    for file in range(2, 1000):
        components.join(file, file % 2)
    return components


def test_what_stands_for_a_component_and_what_is_asked_stays_few(two: Components) -> None:
    assert len(set(two.of_files())) == len(set(two.of_places())) == 2
    assert len(two.standing(1000)) == 24
    assert len(two.standing(4)) == 8
    assert set(two.standing(4)) <= set(two.standing(1000))
    others = two.between((10, 11))
    assert 11 * 11 <= len(others) == len(set(others)) <= 12 * 12
    assert all(a < b and a % 2 != b % 2 and not {a, b} & {10, 11} for a, b in others)


def test_what_stands_for_a_component_is_unlike() -> None:
    near = np.repeat(np.eye(3, 8), 20, axis=0) + np.random.default_rng(2).normal(scale=0.01, size=(60, 8))
    components = placed(list(range(60)), near)
    for file in range(1, 60):
        components.join(0, file)
    assert {place // 20 for place in components.standing(3)} == {0, 1, 2}


def test_another_opinion_is_of_other_files_where_there_are_any() -> None:
    vectors = np.random.default_rng(3).normal(size=(6, 8))
    components = placed([0, 1, 2, 3, 4, 0], vectors)  # the last place is the first file, squashed
    assert components.between((0, 1)) == components.between((1, 5)) == []
    components.join(0, 2)
    assert components.between((0, 1)) == [(1, 2)]
    components.join(1, 3)
    assert components.between((0, 1)) == [(2, 3)]
    assert set(components.between((2, 3))) == {(0, 1), (1, 5)}
    assert set(components.between((2, 4))) == {(0, 4), (4, 5)}
    components.join(0, 1)
    assert components.joined(2, 3)
    assert not components.joined(2, 4)
