"""Radial functions of numerical orbitals: kept by stores and models, or given with --basis, so that S is computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.io import write as write_structures
from tests.io.openmx.pao_files import write_pao
from tests.io.siesta.test_ion_nc import tables, write_classic

import harmose
from harmose.cli import main
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.inference import checkpoint
from harmose.io.files import read
from harmose.physics.integrals.overlap import Overlaps

REGRESSION = {
    "phases": {"stage1": {"share": 0}, "stage2": {"share": 0}, "joint": {"share": 0}},
    "regression": "pairs",
    "tensorboard": False,
    "calibrate": False,
}


def chain(length: float) -> Atoms:
    """Two hydrogens a cell, in a chain along x."""
    return Atoms("H2", [[0, 0, 0], [0.9, 0.1, 0]], cell=[length, 9, 9], pbc=(True, False, False))


def sample_of(overlaps: Overlaps, atoms: Atoms, name: str) -> Sample:
    """S of the functions, and an H in which hopping is -8 S."""
    s = overlaps.of(build_graph(atoms, overlaps.basis.basis))
    block, _, _ = s.indices
    h = s.with_values(np.where(block < len(atoms), -5, -8) * s.values)
    provenance = {"code": "openmx", "settings": {"pao": {"H": "H2.6-s1"}}}
    return Sample(name, atoms, s.basis, h, s, n_electrons=2.0, provenance=provenance)


@pytest.fixture
def pao(tmp_path) -> Path:
    return write_pao(tmp_path / "PAO" / "H2.6.pao", number=1, cutoff=2.6, l_max=0, multiplicity=1, points=300)


@pytest.fixture
def store(tmp_path, pao) -> Path:
    """Chains with OpenMX's functions, which the store does not have."""
    overlaps = Overlaps(harmose.basis("H2.6-s1", pao))  # computes each integral once
    with Store.create(tmp_path / "chains", overlaps.basis.basis) as made:
        for k in range(6):
            made.append(sample_of(overlaps, chain(1.9 + 0.03 * k), f"c{k}"))
        made.set_splits({"train": [f"c{k}" for k in range(5)], "val": ["c5"]})
    return tmp_path / "chains"


def train(tmp_path: Path, store: Path, out: str, *overrides: str) -> int:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(REGRESSION))
    return main(["train", str(tmp_path / "small.yaml"), f"data={store}", f"out={tmp_path / out}", *overrides])


def test_a_model_keeps_the_functions(tmp_path, store, pao, capsys):
    """From the store's samples and the .pao files to bands of a supercell, without any file beside the model."""
    assert train(tmp_path, store, "m", f"basis={pao}", "energy_zero=fermi_of_prediction") == 0
    model = checkpoint.load(tmp_path / "m")
    assert model.card.settings["pao"] == {"H": "H2.6-s1"}
    assert model.radial.basis == model.card.basis
    pao.unlink()
    supercell = chain(1.95).repeat((2, 1, 1))
    write_structures(tmp_path / "new.extxyz", supercell)
    structure = str(tmp_path / "new.extxyz")
    assert main(["predict", str(tmp_path / "m"), structure, "--out", str(tmp_path / "new.npz")]) == 0
    predicted = read(tmp_path / "new.npz")
    expected = harmose.overlap(supercell, model.radial)
    np.testing.assert_allclose(predicted.overlap.values, expected.values, rtol=0, atol=1e-7)
    assert predicted.n_electrons == 4
    for command in ("bands", "dos"):
        assert main([command, str(tmp_path / "m"), structure, "--out", str(tmp_path / f"{command}.csv")]) == 0
    assert "Fermi level" in capsys.readouterr().out


def test_functions_given_on_the_command_line(tmp_path, store, pao, capsys):
    assert train(tmp_path, store, "m") == 0
    assert checkpoint.load(tmp_path / "m").radial is None
    write_structures(tmp_path / "new.extxyz", chain(1.95))
    write_structures(
        tmp_path / "h2.extxyz", Atoms("H2", [[0, 0, 0], [0.9, 0, 0]], cell=[30, 9, 9], pbc=(True, False, False))
    )
    arguments = [str(tmp_path / "m"), str(tmp_path / "new.extxyz")]
    out = ["--out", str(tmp_path / "new.npz")]
    assert main(["predict", *arguments, *out]) == 0
    assert read(tmp_path / "new.npz").overlap is None
    assert main(["predict", *arguments, *out, "--force", "--overlap", str(pao)]) == 2
    assert "got radial functions, from which S is computed with --basis" in capsys.readouterr().err
    assert main(["orbitals", *arguments]) == 2
    assert "expected the overlap S, from a --reference, from --basis" in capsys.readouterr().err
    for files in (pao, pao.parent):
        assert main(["predict", *arguments, *out, "--force", "--basis", str(files)]) == 0
        assert read(tmp_path / "new.npz").overlap is not None
    for command in ("bands", "dos"):
        assert main([command, *arguments, "--basis", str(pao)]) == 0
    assert main(["orbitals", str(tmp_path / "m"), str(tmp_path / "h2.extxyz"), "--basis", str(pao)]) == 0
    assert main(["bands", *arguments, "--basis", str(tmp_path / "none.pao")]) == 2
    assert "none.pao: no such file" in capsys.readouterr().err
    with Store.open(store) as opened:
        alone = replace(opened["c0"], overlap=None)
    harmose.write(tmp_path / "alone.npz", alone)
    assert main(["bands", str(tmp_path / "alone.npz"), "--basis", str(pao), "--electrons", "2"]) == 0


def test_functions_of_other_labels_are_refused(tmp_path, store, pao, capsys):
    other = write_pao(tmp_path / "other" / "H3.0.pao", number=1, cutoff=3.0, l_max=0, multiplicity=1, points=300)
    assert train(tmp_path, store, "m", f"basis={other}") == 2
    assert "expected the radial functions of the labels, got others: S of sample c0" in capsys.readouterr().err
    assert train(tmp_path, store, "m", "energy_zero=fermi_of_prediction") == 2
    assert "give the files" in capsys.readouterr().err


def test_a_store_keeps_functions(tmp_path, store, pao, capsys):
    convert = ["convert", str(store), str(tmp_path / "kept"), "--basis"]
    assert main([*convert, str(pao)]) == 0
    assert "radial functions of H are kept" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "kept"), str(tmp_path / "copy")]) == 0
    with Store.open(tmp_path / "copy") as copy:
        assert copy.radial.basis == copy.basis
    assert train(tmp_path, tmp_path / "copy", "m") == 0
    assert checkpoint.load(tmp_path / "m").radial is not None
    other = write_pao(tmp_path / "other" / "H3.0.pao", number=1, cutoff=3.0, l_max=0, multiplicity=1, points=300)
    assert main(["convert", str(store), str(tmp_path / "bad"), "--basis", str(other)]) == 2
    assert not (tmp_path / "bad").exists()
    assert "expected the radial functions of the labels" in capsys.readouterr().err
    assert main(["convert", str(store), str(tmp_path / "d"), "--to", "deeph", "--basis", str(pao)]) == 2
    assert "--basis: expected --to store" in capsys.readouterr().err


def test_functions_beside_the_runs(tmp_path, capsys):
    """Those that lie beside calculations are kept by the store."""
    from harmose.io.files import Format, register
    from harmose.io.formats import _FORMATS

    before = list(_FORMATS)

    def read_run(path, basis=None):
        return sample_of(Overlaps(harmose.basis(path / "C.ion.nc")), Atoms("C", pbc=False), path.name)

    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_classic(tmp_path / "runs" / name / "C.ion.nc", tables())
        (tmp_path / "runs" / name / "run.toy").write_text("")
    register(Format("toy", "toy run", lambda path: (path / "run.toy").is_file(), read_run))
    try:
        assert main(["convert", str(tmp_path / "runs"), str(tmp_path / "kept")]) == 0
    finally:
        _FORMATS[:] = before
    assert "radial functions of C are kept" in capsys.readouterr().out
    with Store.open(tmp_path / "kept") as kept:
        assert kept.radial.elements == (6,)
