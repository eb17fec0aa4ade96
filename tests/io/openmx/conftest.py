"""Runs of OpenMX that are kept with the tests, and those beside the checkout."""

import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kept_molecules(tmp_path_factory) -> Path:
    """A folder with `h2o`, `oh-col`, `oh-nc` (OpenMX 3.9.9) and `385-oh-nc` (3.8.5): `.scfout` and `.out`. Do not change it."""
    folder = tmp_path_factory.mktemp("openmx")
    with zipfile.ZipFile(Path(__file__).with_name("molecules.zip")) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def molecules(kept_molecules, tmp_path) -> Path:
    """A copy of `kept_molecules` that a test may change."""
    import shutil

    return shutil.copytree(kept_molecules, tmp_path / "molecules")


@pytest.fixture(scope="session")
def runs(shared_data) -> Path:
    return shared_data / "dft-outputs"
