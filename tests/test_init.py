"""The public names of the package: each is there, and importing the package is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import harmose
from harmose.core.basis import BasisSet
from harmose.data.store import Store
from harmose.io.files import read


def test_names_are_the_objects_of_their_modules():
    assert harmose.BasisSet is BasisSet
    assert harmose.Store is Store
    assert harmose.read is read
    assert harmose.pyscf.__name__ == "harmose.scf.initial_guess"
    assert set(harmose.__all__) <= set(dir(harmose)) | {"__version__"}


@pytest.mark.parametrize("name", harmose.__all__)
def test_every_name_is_there(name):
    assert getattr(harmose, name) is not None


def test_stub_lists_the_same_names():
    stub = ast.parse(Path(harmose.__file__).with_suffix(".pyi").read_text())
    names = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted([*names, "__version__"]) == sorted(harmose.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="colour"):
        _ = harmose.colour


def test_predict_names_the_method_to_use():
    with pytest.raises(AttributeError, match=r"use harmose.load\(...\).predict\(atoms\)"):
        _ = harmose.predict


def test_importing_loads_nothing_heavy():
    code = "import sys, harmose; print([m for m in ('torch', 'numpy', 'ase', 'pyscf', 'typer') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_loading_a_model_imports_no_package_that_it_does_not_need():
    heavy = (
        "pyscf",
        "distributed.core",
        "matplotlib",
        "lightning",
        "e3nn",
        "sisl.io",
        "h5py.h5",
        "pandas",
        "scipy.optimize",
        "rich",
    )
    code = f"import sys, harmose; harmose.load('water-pbe-def2svp'); print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
