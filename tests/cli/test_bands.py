"""`harmose bands`: of DFT samples and predictions, files, bad input."""

from dataclasses import replace
from pathlib import Path

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


def test_bands_of_a_sample(run, chain, table_rows, read_csv, capsys):
    assert run("bands dft one --path GX --points 11 --window -10 50 --mesh 30x1x1 --out b.png") == 0
    printed = capsys.readouterr().out
    table = table_rows(printed)
    level = float(table["Fermi level (eV)"][0])
    assert table["gap on the path (eV)"] == ["0 (metal)"]
    assert printed.splitlines()[-2:] == ["b.png", "b.csv"]
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")
    comments, head, values = read_csv("b.csv")
    assert head == ["x (1/angstrom)", "k1", "k2", "k3", "point", "DFT 1 (eV)"]
    assert f"{level:.6f} eV on the scale of H" in comments[-1]
    assert len(values) == 11
    np.testing.assert_allclose(values[:, 0], np.linspace(0, np.pi / 2, 11), atol=1e-7)
    np.testing.assert_allclose(values[:, 4], chain.energy(values[:, 1], -2.0) - level, atol=2e-6)
    text = Path("b.csv").read_text().splitlines()[len(comments) + 1 :]
    assert [line.split(",")[4] for line in text] == ["G", *[""] * 9, "X"]


def test_prediction_over_dft(run, chain, table_rows, read_csv, capsys):
    command = "bands chain_model chain.extxyz --reference dft --window -10 50 --out b.csv"
    assert run(command) == 0
    printed = capsys.readouterr().out
    dft, predicted = (float(x) for x in table_rows(printed)["Fermi level (eV)"])
    assert 0 < abs(dft - predicted) < 0.05
    _, head, values = read_csv("b.csv")
    assert head[-2:] == ["DFT 1 (eV)", "prediction 1 (eV)"]
    k, first, second = values[:, 1], values[:, 4], values[:, 5]
    np.testing.assert_allclose(first, chain.energy(k, -2.0) - dft, atol=2e-6)
    shift = float(printed.split("the prediction moved by ")[1].split(" eV")[0])
    np.testing.assert_allclose(second, chain.energy(k, -2.01) + shift - dft, atol=2e-6)
    occupied = chain.energy(k, -2.0) <= dft
    assert shift == pytest.approx(np.median((chain.energy(k, -2.0) - chain.energy(k, -2.01))[occupied]), abs=1e-5)
    error = float(printed.split("mean absolute error ")[1].split(" meV")[0])
    assert error == pytest.approx(1e3 * np.abs(first - second).mean(), abs=2e-3)
    assert "no ghost states" in printed
    assert run(f"{command} --align fermi") == 2
    assert "b.csv: exists already; --force replaces it" in capsys.readouterr().err
    assert run(f"{command} --align fermi --force") == 0
    shift = float(capsys.readouterr().out.split("the prediction moved by ")[1].split(" eV")[0])
    assert shift == pytest.approx(dft - predicted, abs=1e-5)


def test_stored_prediction(run, chain, capsys):
    bare = chain.sample("guess", -2.01, overlap=None, n_electrons=None, provenance={"kind": "prediction"})
    write("guess.npz", bare)
    assert run("bands guess.npz --reference dft --window -10 50") == 0
    once = capsys.readouterr().out
    assert run("bands chain_model chain.extxyz --reference dft --window -10 50") == 0
    assert capsys.readouterr().out == once


def test_collinear(run, chain, read_csv, capsys):
    up = chain.hamiltonian()
    both = BlockMatrix(chain.basis, up.numbers, up.pairs, np.concatenate([up.values, up.values + 0.5]), Spin.COLLINEAR)
    write("magnet.npz", replace(chain.sample("magnet"), hamiltonian=both, spin=Spin.COLLINEAR))
    assert run("bands magnet.npz --window -10 50 --out m.png") == 0
    assert read_csv("m.csv")[1][-2:] == ["DFT up 1 (eV)", "DFT down 1 (eV)"]


def test_electrons_of_the_reference(run, chain):
    """The number of electrons is known for one of the two samples."""
    write("one.npz", chain.sample("one"))
    write("unknown.npz", chain.sample("unknown", n_electrons=None))
    assert run("bands one.npz --reference unknown.npz") == 0


def test_electrons_option(run, chain, table_rows, capsys):
    write("unknown.npz", chain.sample("unknown", n_electrons=None))
    assert run("bands unknown.npz --electrons 1 --window -10 50 --mesh 30x1x1") == 0
    given = table_rows(capsys.readouterr().out)
    assert run("bands dft one --window -10 50 --mesh 30x1x1") == 0
    assert table_rows(capsys.readouterr().out) == given


def test_states_around_the_fermi_level(run, chain, table_rows, read_csv, capsys):
    assert run("bands dft one --path GX --points 5 --window -10 50 --around-fermi 1 --mesh 30x1x1 --out b.csv") == 0
    _, head, values = read_csv("b.csv")
    assert head[-1] == "DFT 1 (eV)"
    level = float(table_rows(capsys.readouterr().out)["Fermi level (eV)"][0])
    np.testing.assert_allclose(values[:, 4], chain.energy(values[:, 1], -2.0) - level, atol=2e-6)
    assert run("bands dft one --around-fermi 2") == 2
    assert "expected 1 to 1 states, got 2" in capsys.readouterr().err
    assert run("bands chain_model chain.extxyz --reference dft --around-fermi 1") == 2
    assert "--around-fermi: expected no --reference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bands dft one --path GMKG", "one: k-path: expected points among G, X of this one-dimensional cell, got 'GMKG'"),
        ("bands dft one --points 1", "expected 2 to 100000 points"),
        ("bands dft one --window 500 600", "window: there is no band from 500 to 600 eV; they lie from"),
        ("bands dft one --window 5 -5", "the lower first, got 5 and -5"),
        ("bands dft one --mesh 3x3", "k-mesh: expected a size such as 15x15x1, got '3x3'"),
        ("bands dft one --electrons 5", "one: Fermi level: expected more than 0 and less than 2 electrons, got 5"),
        ("bands dft one --align middle", "Invalid value for '--align': 'middle' is not one of 'occupied', 'fermi'"),
        ("bands dft one --out bands.jpg", "--out: expected a file .png, .pdf, .svg or .csv, got 'bands.jpg'"),
        ("bands dft one --out no/bands.png", "no/bands.png: there is no folder no"),
        ("bands dft three", "dft: no sample named 'three'"),
        ("bands dft", "expected the name of one of its 2 samples"),
        ("bands nothing.npz", "nothing.npz: no such file or folder"),
        ("bands dft two --reference one.npz", "one.npz: none of its 1 samples has the structure of 'two'"),
        ("bands water.npz", "water-0: k-path: expected a crystal, got a molecule (H2O, no periodic direction)"),
        ("bands bare.npz", "bare: bands: the basis is not orthogonal, so the overlap S is needed beside H; got no S"),
        ("bands unknown.npz", "unknown: neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("bands no_electrons chain.extxyz", "neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("bands no_model chain.extxyz", "no_model: no such model"),
        ("bands chain_model nothing.xyz", "nothing.xyz: no such"),
    ],
)  # fmt: skip
def test_bad_input(refused_command, command, words):
    refused_command(command, words)


def test_ghost_levels(run, capsys):
    """A hopping of the wrong sign lowers the states at the zone boundary, where S(k) of a dense chain is small."""
    close = Atoms("H", cell=[1.2, 9, 9], pbc=(True, False, False))
    write_structures("close.extxyz", close)
    assert run("bands ghost_chain close.extxyz --window -50 50 --path GX --points 9") == 0
    printed = capsys.readouterr().err
    assert printed.startswith("harmose: warning: ")
    assert " ghost levels from -" in printed
    assert printed.count("\n") == 1
    assert run("bands chain_model chain.extxyz --window -50 50 --path GX --points 9") == 0
    assert capsys.readouterr().err == ""
