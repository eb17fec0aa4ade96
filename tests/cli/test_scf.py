"""`harmose scf`: PySCF started from its own guesses and from a prediction."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from ase.io import write as write_structures

from harmose.cli import main
from harmose.core.basis import BasisSet
from harmose.inference import checkpoint
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import PySCFSettings, mean_field, molecule, to_blocks
from harmose.spin import Spin

SETTINGS = PySCFSettings("hf", "sto-3g", grid_level=0)


@dataclass(frozen=True)
class Converged:
    """A model that returns the converged Fock matrix times `sign`."""

    basis: BasisSet
    sign: float = 1.0

    @property
    def card(self):
        return SimpleNamespace(basis=self.basis, spin=Spin.NONE, settings=SETTINGS.to_dict())

    def predict(self, atoms):
        mf = mean_field(molecule(atoms, "sto-3g"), SETTINGS).run(conv_tol=1e-12)
        return to_blocks(self.sign * mf.get_fock(), zeros(atoms, self.basis))


@pytest.fixture(autouse=True)
def new(tmp_path, water_basis, water_atoms, monkeypatch):
    models = {"right": Converged(water_basis), "wrong": Converged(water_basis, -1.0)}
    monkeypatch.setattr(checkpoint, "load", models.__getitem__)
    write_structures(tmp_path / "new.xyz", water_atoms(40))
    return str(tmp_path / "new.xyz")


def test_all_guesses(new, table_rows, capsys):
    assert main(["scf", "right", new, "--guesses", "all"]) == 0
    runs = table_rows(capsys.readouterr().out)
    assert list(runs) == ["minao", "atom", "huckel", "mod_huckel", "sap", "vsap", "1e", "prediction"]
    assert runs["prediction"][0] == "1"
    assert min(int(row[0]) for name, row in runs.items() if name != "prediction") > 4
    energies = [float(row[2]) for row in runs.values()]
    assert all(float(row[1]) > 0 for row in runs.values())
    assert max(energies) - min(energies) < 1e-8


def test_refused_prediction(new, table_rows, capsys):
    assert main(["scf", "wrong", new]) == 0
    printed = capsys.readouterr()
    runs = table_rows(printed.out)
    minao, refused = runs["minao"], runs["prediction (refused: minao)"]
    assert (minao[0], minao[2]) == (refused[0], refused[2])
    assert "0 cycles saved, " in printed.out
    assert "; the energies differ by 0.0e+00 Ha" in printed.out
    assert "harmose: warning: the predicted density is too poor" in printed.err


def test_without_diis(new, table_rows, capsys):
    assert main(["scf", "right", new, "--no-diis", "--damping", "0.3", "--guesses", "1e", "--max-cycle", "9"]) == 0
    runs = table_rows(capsys.readouterr().out)
    assert runs["prediction"][0] == "1"
    assert (runs["minao"][0], runs["minao"][2]) == ("not in 9", "")
    assert main(["scf", "right", new, "--no-diis"]) == 0
    runs = table_rows(capsys.readouterr().out)
    assert int(runs["minao"][0]) > 9
    assert float(runs["minao"][2]) == pytest.approx(float(runs["prediction"][2]), abs=1e-8)


def test_bad_input(new, capsys):
    assert main(["scf", "wrong", new, "--max-cycle", "2"]) == 2
    assert "not converged from any guess in 2 cycles" in capsys.readouterr().err
    assert main(["scf", "right", new, "--guesses", "minao,best"]) == 2
    assert "--guesses: expected names among minao, atom, huckel, mod_huckel, sap, vsap, 1e, got 'best'" in (
        capsys.readouterr().err
    )
