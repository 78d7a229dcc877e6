"""The device is the processor here: what is compared is torch's doing of a view with OpenCV's and NumPy's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from callus.dataset.manifest import read_manifest, usable
from callus.training import recipe as recipes
from callus.training.augment import view_generator, warp
from callus.training.batches import Pictures
from callus.training.examples import Examples
from callus.training.grey import draw_grey, vary_grey
from callus.training.on_device import DevicePictures, varied
from callus.training.recipe import Augmentation

if TYPE_CHECKING:
    from pathlib import Path

    from callus.training.examples import Batch

CPU = torch.device("cpu")
EVERYTHING = {"noise": 0.05, "border": 0.5, "marks": 0.6, "inversion": 0.3, "sharpness": 1.5, "tone": 0.4}
STEP = 1 / 255


def batches(source: Pictures | DevicePictures, epoch: int) -> list[Batch]:
    return list(source.batches(np.arange(len(source.examples)), epoch, rank=0, world=1))


@pytest.mark.parametrize("crop", [0, 64])
@pytest.mark.parametrize("fill", ["black", "nearest"])
def test_batches_are_those_of_the_processor(simulated: Path, crop: int, fill: str) -> None:
    choice = recipes.override(recipes.load("radiograph"), {"input.height": 128, "input.width": 96})
    choice = replace(choice, augmentation=replace(choice.augmentation, fill=fill))
    rows = usable(read_manifest(simulated))
    examples = Examples(rows[rows["split"] == "train"], choice, crop)
    there: dict[str, torch.Tensor] = {}
    for epoch in (0, 1):  # the second finds the pictures where they are
        ours = batches(DevicePictures(examples, 8, 2, CPU, there), epoch)
        theirs = batches(Pictures(examples, 8, 2), epoch)
        assert len(there) == len(set(examples.sha256))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.label, other.label)
            assert torch.equal(one.mask, other.mask)
            assert torch.equal(one.located, other.located)
            assert one.share == other.share
            assert one.inputs[0].shape == other.inputs[0].shape
            off = (one.inputs[0] - other.inputs[0]).abs()
            assert off.mean() < STEP  # of a range of 2: OpenCV rounds places to 1/32 of a pixel, values to 8 bits
            assert off.flatten().quantile(0.999) < 16 * STEP


@pytest.mark.parametrize("fill", ["black", "nearest"])
def test_beside_the_picture_is_what_the_recipe_says(fill: str) -> None:
    choice = Augmentation(fill=fill)
    pixels = (cv2.GaussianBlur(np.random.default_rng(0).random((48, 64)), (0, 0), 3) * 200 + 55).astype(np.uint8)
    moved = [np.array([[0.8, 0.1, 7.3], [-0.1, 0.8, 4.6]]), np.array([[1.0, 0.0, -20.0], [0.0, 1.0, 20.0]])]
    grey = draw_grey(choice, 40, 72, view_generator(0, "a" * 64, 0))
    ours = varied(torch.from_numpy(pixels / np.float32(255)).expand(2, -1, -1), moved, (40, 72), [grey, grey], fill)
    for one, affine in zip(ours.numpy(), moved, strict=True):
        np.testing.assert_allclose(one * 255, warp(pixels, affine, choice, 40, 72), atol=8)  # at a border of 255 to 0


def test_grey_values_are_those_of_the_processor() -> None:
    choice = replace(recipes.load("radiograph").augmentation, **EVERYTHING)
    generator = np.random.default_rng(0)
    pixels = generator.random((40, 72, 56), dtype=np.float32)
    drawn = [draw_grey(choice, 72, 56, view_generator(0, "a" * 64, number)) for number in range(40)]
    assert any(one.inverted for one in drawn)
    assert any(mark.plate for one in drawn for mark in one.marks)
    assert {one.sharpness is None or one.sharpness < 0 for one in drawn} == {True, False}
    ours = varied(torch.from_numpy(pixels), [np.eye(2, 3)] * 40, (72, 56), drawn, "black").numpy()
    for number in range(40):
        # A value between two steps of the bent scale may be taken for the one or the other.
        np.testing.assert_allclose(ours[number], vary_grey(pixels[number].copy(), drawn[number]), atol=4e-3)


def test_sixteen_bits_stay_sixteen(simulated: Path, tmp_path: Path) -> None:
    changes = {"input.height": 64, "input.width": 64, "augmentation.noise": 0.0}
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    rows = usable(read_manifest(simulated)).iloc[:1].assign(path=str(tmp_path / "deep.png"), height=64, width=64)
    examples = Examples(rows, recipes.override(recipes.load("radiograph"), changes))
    assert examples.fitted(0).dtype == np.uint16
    (ours,), (theirs,) = batches(DevicePictures(examples, 1, 1, CPU, {}), 0), batches(Pictures(examples, 1, 1), 0)
    assert (ours.inputs[0] - theirs.inputs[0]).abs().mean() < STEP / 4
