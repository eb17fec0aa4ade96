"""`harmose dos`: of DFT samples and predictions, by all states and by kernel polynomials, bad input."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as write_structures

from harmose.cli import main
from harmose.core.blocks import BlockMatrix
from harmose.io.files import write
from harmose.spin import Spin


@pytest.fixture
def run(chain):
    """`run(command)`: run a command line in the folder of `chain`; return the exit code."""
    return lambda command: main(command.split())


def test_density_of_states(run, chain, table_rows, read_csv, capsys):
    assert run("dos dft one --by l --window -20 60 --points 2001 --out d.png") == 0
    table = table_rows(capsys.readouterr().out)
    assert float(table["states in the window"][0]) == pytest.approx(1, abs=1e-3)
    assert table["H s"] == table["states in the window"]
    comments, head, values = read_csv("d.csv")
    assert head == ["energy (eV)", "DFT total (1/eV)", "DFT H s (1/eV)"]
    assert "states per eV and cell; without spin each holds two electrons" in comments[1]
    assert np.trapezoid(values[:, 1], values[:, 0]) == pytest.approx(1, abs=1e-3)
    below = values[:, 0] <= 0
    assert 2 * np.trapezoid(values[below, 1], values[below, 0]) == pytest.approx(1, abs=0.05)
    assert run("dos chain_model chain.extxyz --reference dft --tetrahedra --mesh 24x1x1 --out two.csv") == 0
    assert read_csv("two.csv")[1] == ["energy (eV)", "DFT total (1/eV)", "prediction total (1/eV)"]


def test_molecule(run, table_rows, capsys, water_store):
    assert main(["dos", str(water_store), "water-0", "--by", "element", "--window", "-2000", "200"]) == 0
    table = table_rows(capsys.readouterr().out)
    assert float(table["states in the window"][0]) == pytest.approx(7, abs=1e-2)
    assert float(table["O"][0]) + float(table["H"][0]) == pytest.approx(7, abs=1e-2)


def test_kernel_polynomials(run, read_csv, capsys):
    """One orbital at Gamma, so one state."""
    command = "dos dft one --method kpm --electrons 1 --window -2 2 --moments 400 --vectors 2 --points 401 --out d.csv"
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "400 moments, 2 vectors" in printed
    assert "1.0 states of 1; Fermi level within" in printed
    _, _, values = read_csv("d.csv")
    assert len(values) == 401
    assert values[:, 1].min() > -1e-3  # moments are sums of float32


def test_collinear(run, chain, read_csv):
    up = chain.hamiltonian()
    both = BlockMatrix(chain.basis, up.numbers, up.pairs, np.concatenate([up.values, up.values + 0.5]), Spin.COLLINEAR)
    write("magnet.npz", replace(chain.sample("magnet"), hamiltonian=both, spin=Spin.COLLINEAR))
    assert run("dos magnet.npz --window -10 50 --by atom --out n.png") == 0
    columns = ["DFT up total (1/eV)", "DFT down total (1/eV)", "DFT up H 0 (1/eV)", "DFT down H 0 (1/eV)"]
    assert read_csv("n.csv")[1][1:] == columns


def test_stored_prediction(run, chain):
    bare = chain.sample("guess", -2.01, overlap=None, n_electrons=None, provenance={"kind": "prediction"})
    write("guess.npz", bare)
    assert run("dos guess.npz --reference dft --window -10 50") == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("dos bare.npz", "bare: density of states: the basis is not orthogonal, so the overlap S is needed"),
        ("dos unknown.npz", "unknown: neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("dos dft one --by colour", "'colour' is not one of 'element', 'atom', 'shell', 'l'"),
        ("dos dft one --width 0", "expected a positive width in eV, got 0.0"),
        ("dos dft one --window 500 600", "window: there are no states from 500 to 600 eV"),
        ("dos dft one --points 1", "expected 2 to 1000000 points"),
        ("dos dft one --method dft", "'dft' is not one of 'dense', 'kpm'"),
        ("dos dft one --method kpm --by l", "--by: expected --method dense"),
        ("dos dft one --method kpm --moments 3", "even number"),
    ],
)  # fmt: skip
def test_bad_input(refused_command, command, words):
    refused_command(command, words)


def test_ghost_levels(run, capsys):
    """A hopping of the wrong sign lowers the states at the zone boundary, where S(k) of a dense chain is small."""
    close = Atoms("H", cell=[1.2, 9, 9], pbc=(True, False, False))
    write_structures("close.extxyz", close)
    assert run("dos ghost_chain close.extxyz --window -50 50 --mesh 12x1x1") == 0
    printed = capsys.readouterr().err
    assert printed.startswith("harmose: warning: ")
    assert " ghost levels from -" in printed
    assert printed.count("\n") == 1
    assert run("dos chain_model chain.extxyz --window -50 50 --mesh 12x1x1") == 0
    assert capsys.readouterr().err == ""
