from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import torch

from callus.errors import TrainingError
from callus.model.trunks import build_trunk
from callus.training import recipe as recipes
from callus.training.trunk_cache import TrunkCache, affordable_views, cache_key, clear_others

SHAPES = [(3, 2, 2), (5,)]


def records(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((count, *shape), generator=generator).half() for shape in SHAPES]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., TrunkCache]]:
    """Open caches that are closed when the test ends."""
    with ExitStack() as stack:

        def make(key: str = "k", shapes: list[tuple[int, ...]] = SHAPES) -> TrunkCache:
            return stack.enter_context(closing(TrunkCache(tmp_path, key, shapes)))

        yield make


def test_what_is_kept_comes_back_in_any_order_and_from_another_process_files(
    opened: Callable[..., TrunkCache],
) -> None:
    first, second = opened(), opened()
    one, two = records(2, seed=1), records(1, seed=2)
    first.append([("a", 0), ("b", -1)], one)
    second.append([("a", 1)], two)
    assert first.missing([("a", 0)]) == [("a", 0)]
    first.refresh()
    assert first.missing([("a", 0), ("a", 1), ("b", -1), ("c", 0), ("c", 0)]) == [("c", 0)]
    back = first.read([("a", 1), ("b", -1), ("a", 0)])
    for part, whole_one, whole_two in zip(back, one, two, strict=True):
        torch.testing.assert_close(part, torch.stack([whole_two[0], whole_one[1], whole_one[0]]), rtol=0, atol=0)


def test_half_a_record_that_a_killed_process_left_does_not_count(
    tmp_path: Path, opened: Callable[..., TrunkCache]
) -> None:
    cache = opened()
    cache.append([("a", 0), ("b", 0)], records(2))
    cache.close()
    (data,) = (tmp_path / "k").glob("*.f16")
    data.write_bytes(data.read_bytes()[:-1])
    again = opened()
    assert again.missing([("a", 0), ("b", 0)]) == [("b", 0)]


def test_values_beyond_float16_are_cut_not_infinite(opened: Callable[..., TrunkCache]) -> None:
    cache = opened(shapes=[(1,)])
    cache.append([("a", 0)], [torch.tensor([[1e6]])])
    cache.refresh()
    assert cache.read([("a", 0)])[0].item() == 65504


def test_the_key_follows_weights_input_and_augmentation_and_not_the_epochs() -> None:
    recipe = recipes.override(recipes.load("callus"), {"trunk.name": "mobilenet_v2"})
    torch.manual_seed(0)
    trunk = build_trunk("mobilenet_v2")
    key = cache_key(trunk, recipe)
    assert cache_key(trunk, recipes.override(recipe, {"frozen.epochs": 3, "head.dropout": 0.1})) == key
    others = [{"seed": 1}, {"input.width": 224}, {"augmentation.rotation": 1.0}, {"head.kind": "pooled"}]
    keys = {key, *(cache_key(trunk, recipes.override(recipe, change)) for change in others)}
    with torch.no_grad():
        next(trunk.parameters()).add_(1)
    assert len(keys | {cache_key(trunk, recipe)}) == len(others) + 2


def test_the_limit_lowers_the_views_and_then_refuses() -> None:
    assert affordable_views(4, pictures=10, validation=5, record_bytes=100, limit=10_000) == 4
    assert affordable_views(4, pictures=10, validation=5, record_bytes=100, limit=2_500) == 2
    with pytest.raises(TrainingError, match="--cache-limit"):
        affordable_views(4, pictures=10, validation=5, record_bytes=100, limit=1_400)


def test_the_longest_unused_features_make_room_and_those_in_use_stay(
    tmp_path: Path, opened: Callable[..., TrunkCache]
) -> None:
    for age, name in enumerate(["old", "held", "new"]):
        cache = opened(name)
        cache.append([("a", 0)], records(1))
        cache.close()
        os.utime(tmp_path / name, (age, age))
    opened("held")
    os.utime(tmp_path / "held", (1, 1))
    size = sum(file.stat().st_size for file in (tmp_path / "new").iterdir())
    clear_others(tmp_path, "mine", need=size, limit=3 * size)
    assert {path.name for path in tmp_path.iterdir()} == {"held", "new"}
    clear_others(tmp_path, "mine", need=size, limit=size)
    assert {path.name for path in tmp_path.iterdir()} == {"held"}
