"""CP2K's input: settings that mean something, meshes, and a file that reads back as the same crystal."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene

from harmose.core.basis import Shell
from harmose.errors import LabellingError
from harmose.io.cp2k.basis_data import Kind
from harmose.io.cp2k.input import CP2KSettings, input_file, mesh_of
from harmose.io.cp2k.structure import parse_input

CARBON = {6: Kind("DZVP-q4", "BASIS_MOLOPT", (Shell(2, 0),), "GTH-PBE-q4", "GTH_POTENTIALS", 4)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"functional": "b3lyp"}, "functional: expected one of pbe, pbesol, revpbe, blyp, lda for CP2K, got 'b3lyp'"),
        ({"kmesh": (3, 0, 1)}, r"kmesh: expected three whole numbers from 1 upward, got \(3, 0, 1\)"),
        ({"kmesh": (3, 3)}, "kmesh: expected three whole numbers"),
        ({"kmesh": (1.5, 1, 1)}, "kmesh: expected three whole numbers"),
        ({"cutoff": -1.0}, "cutoff: expected a positive number, got -1"),
        ({"smearing": 0.0}, "smearing: expected a positive number"),
        ({"eps_scf": float("nan")}, "eps_scf: expected a positive number"),
        ({"pair_cutoff": float("inf")}, "pair_cutoff: expected a positive number"),
    ],
)
def test_invalid_settings(changes, message):
    with pytest.raises(LabellingError, match=message):
        CP2KSettings(**changes)


def test_equal_settings():
    assert CP2KSettings("PBE ", "dzvp-molopt-sr-gth", cutoff=300).to_dict() == CP2KSettings(cutoff=300.0).to_dict()
    assert CP2KSettings("lda").potential == "GTH-PADE"
    assert CP2KSettings(kmesh=(3, 3, 1)).k_spacing is None


def test_mesh_from_spacing():
    sheet = graphene(a=2.46, vacuum=6.0)
    assert mesh_of(sheet, CP2KSettings(k_spacing=0.2)) == (15, 15, 1)
    assert mesh_of(sheet.repeat((3, 3, 1)), CP2KSettings(k_spacing=0.2)) == (5, 5, 1)
    assert mesh_of(bulk("Si"), CP2KSettings(k_spacing=100.0)) == (1, 1, 1)
    assert mesh_of(bulk("Si"), CP2KSettings(kmesh=(2, 3, 4))) == (2, 3, 4)


def test_input_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    atoms = Atoms(
        "C2", rng.normal(size=(2, 3)) * 9, cell=[[2.5, 0, 0], [-1.25, 2.1, 0.1], [0, 0, 9]], pbc=(True, True, False)
    )
    path = tmp_path / "harmose.inp"
    path.write_text(input_file(atoms, CP2KSettings("pbesol", kmesh=(3, 2, 1), cutoff=250), CARBON))
    root = parse_input(path)
    subsys = root.find("FORCE_EVAL", "SUBSYS")
    rows = [[float(x) for x in value.split()] for _, value in subsys.find("COORD").keywords]
    np.testing.assert_allclose(rows, atoms.positions, atol=1e-13)
    cell = [[float(x) for x in (subsys.find("CELL").get(name) or "").split()] for name in "ABC"]
    np.testing.assert_allclose(cell, atoms.cell.array, atol=1e-13)
    kind, dft = subsys.find("KIND"), root.find("FORCE_EVAL", "DFT")
    assert (kind.parameter, kind.get("BASIS_SET"), kind.get("POTENTIAL")) == ("C", "DZVP-q4", "GTH-PBE-q4")
    assert dft.find("KPOINTS").get("SCHEME") == "MONKHORST-PACK 3 2 1"
    assert dft.find("MGRID").get("CUTOFF") == "250.0"
    assert dft.find("XC", "XC_FUNCTIONAL", "PBE").get("PARAMETRIZATION") == "PBESOL"
    for matrix in ("KS_CSR_WRITE", "S_CSR_WRITE"):
        assert dft.find("PRINT", matrix).get("REAL_SPACE") == "T"
