"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared data are not here: {name} is looked for in ../shared beside the checkout")
    return path


@pytest.fixture(scope="session")
def fracatlas() -> Path:
    """The folder of FracAtlas: images/, dataset.csv, Annotations/."""
    return _shared("data/fracatlas")


@pytest.fixture(scope="session")
def bonedata() -> Path:
    """The folder of BoneData: Data/{train,val}/{fractured,not fractured}."""
    return _shared("data/bonedata")


@pytest.fixture(scope="session")
def dicom_folder() -> Path:
    """Computed radiographs in several transfer syntaxes."""
    return _shared("data/dicom")


@pytest.fixture(scope="session")
def imagenet_mobilenet() -> Path:
    """Real ImageNet weights of MobileNetV2 in Keras' file layout."""
    return _shared("weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5")
