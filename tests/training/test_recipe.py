from __future__ import annotations

import pytest

from callus.errors import RecipeError
from callus.training import recipe as recipes


@pytest.mark.parametrize("name", ["seed", "callus", "demo"])
def test_a_recipe_that_ships_loads_and_comes_back_from_its_own_toml(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.about
    assert recipes.parse(recipe.to_toml()) == recipe


@pytest.mark.parametrize("name", ["seed", "callus", "radiograph", "demo"])
def test_a_recipe_that_ships_names_and_comments_every_field(name: str) -> None:
    import dataclasses
    import tomllib

    values = tomllib.loads((recipes.shipped_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    assert set(values) == {field.name for field in dataclasses.fields(recipes.Recipe)}
    for section, entries in dataclasses.asdict(recipes.load(name)).items():
        if isinstance(entries, dict):
            assert set(values[section]) == set(entries)


def test_the_seed_recipe_is_the_original_notebook() -> None:
    seed = recipes.load("seed")
    assert (seed.input.height, seed.input.width, seed.input.fit) == (224, 224, "squash")
    assert (seed.input.low, seed.input.high) == (0.0, 1.0)
    assert (seed.head.kind, seed.head.dense, seed.head.dropout) == ("pooled", (256, 128), 0.5)
    assert (seed.frozen.epochs, seed.tuning.epochs) == (20, 0)
    augmentation = seed.augmentation
    assert (augmentation.rotation, augmentation.shift, augmentation.zoom) == (40.0, 0.1, 0.1)
    assert (seed.optimisation.schedule, seed.optimisation.plateau_epochs) == ("plateau", 3)


def test_all_problems_are_named_at_once() -> None:
    text = 'sed = 1\n[head]\nkind = "tall"\ndropout = "much"\n[frozen]\nepoch = 3\n'
    with pytest.raises(RecipeError) as caught:
        recipes.parse(text, where="mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml: ")
    for part in (
        "unknown key sed",
        "head.kind is 'tall'; expected \"pooled\"",
        "head.dropout",
        "unknown key frozen.epoch",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("input.height", 100, "multiples of 32"),
        ("head.dropout", 1.0, "head.dropout"),
        ("frozen.epochs", 0, "all 0"),
        ("optimisation.ema", 1.0, "optimisation.ema"),
        ("splitting.test", 0.95, "nothing to train on"),
        ("optimisation.batch", 0, "optimisation.batch"),
        ("tuning.crop", 100, "multiple of 32"),
        ("tuning.crop", 32, "at least 64"),
    ],
)
def test_a_value_out_of_its_range_is_an_error(name: str, value: object, message: str) -> None:
    recipe = recipes.override(recipes.load("callus"), {"tuning.epochs": 0})
    with pytest.raises(RecipeError, match=message):
        recipes.override(recipe, {name: value})


def test_true_is_no_number_and_no_such_name_is_an_error() -> None:
    with pytest.raises(RecipeError, match="a whole number"):
        recipes.override(recipes.load("seed"), {"frozen.epochs": True})
    with pytest.raises(RecipeError, match=r"no frozen\.epoch"):
        recipes.override(recipes.load("seed"), {"frozen.epoch": 3})
    with pytest.raises(RecipeError, match="no such recipe"):
        recipes.load("nobody")
