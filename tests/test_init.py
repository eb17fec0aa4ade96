"""The package's front door: every advertised name is there, and looking in costs nothing."""

import subprocess
import sys

import pytest

import harmose


def test_names_resolve_to_the_types_inside():
    from harmose.core.basis import BasisSet
    from harmose.data.store import Store
    from harmose.io.files import read

    assert harmose.BasisSet is BasisSet
    assert harmose.Store is Store
    assert harmose.read is read
    assert harmose.pyscf.__name__ == "harmose.scf.initial_guess"
    assert set(harmose.__all__) <= set(dir(harmose))
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = harmose.colour


@pytest.mark.parametrize("name", harmose.__all__)
def test_every_name_is_there(name):
    assert getattr(harmose, name) is not None


def test_importing_loads_nothing_heavy():
    code = "import sys, harmose; print([m for m in ('torch', 'numpy', 'ase', 'pyscf', 'typer') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
