"""A run of CP2K that is kept with the tests."""

import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def chain(tmp_path) -> Path:
    """H2 molecules in a row, DZVP-MOLOPT-SR-GTH, binary; one atom lies below c/2 and one above."""
    with zipfile.ZipFile(Path(__file__).with_name("cp2k-h2-chain.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "h2-chain"
