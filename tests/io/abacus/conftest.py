"""A real run for the tests of ABACUS's reader."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mos2(shared_data) -> Path:
    return shared_data / "dft-outputs" / "abacus-MoS2"
