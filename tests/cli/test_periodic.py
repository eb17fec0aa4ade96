"""`harmose bands` and `harmose dos` on DFT samples and predictions: numbers, files, and one line for what is wrong."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as write_structures

from harmose.cli import main
from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.inference import checkpoint
from harmose.io.basis_sets import overlap
from harmose.io.files import write
from harmose.spin import Spin

BASIS = BasisSet("sto-3g", {1: (Shell(1, 0),)}, {1: 3.1})
"""Hydrogen's 1s of PySCF's STO-3G, so that S can be made from the name of the basis set."""

CHAIN = Atoms("H", [[0, 0, 0]], cell=np.diag([2.0, 9, 9]), pbc=(True, False, False))


def hydrogen(hopping: float = -2.0, atoms: Atoms = CHAIN) -> BlockMatrix:
    """-3 eV on site, `hopping` to the next atom, 2 angstrom away, and a tenth of it beyond."""
    graph = build_graph(atoms, BASIS)
    near = np.linalg.norm(graph.vectors, axis=1) < 2.5
    values = np.concatenate([np.full(len(atoms), -3.0), np.where(near, hopping, hopping / 10)])
    return BlockMatrix(BASIS, graph.numbers, graph.pairs, values[None])


def sample(name: str, hopping: float = -2.0, **changes) -> Sample:
    known = {"overlap": overlap(CHAIN, BASIS), "n_electrons": 1.0}
    return Sample(name, CHAIN, BASIS, hydrogen(hopping), **{**known, **changes})


@dataclass(frozen=True)
class Knowing:
    """A model that predicts the chain with a hopping that is 10 meV too large."""

    valence: bool = True

    @property
    def card(self):
        settings = {"code": "cp2k", **({"valence": {"H": 1}} if self.valence else {})}
        return SimpleNamespace(elements=(1,), basis=BASIS, spin=Spin.NONE, settings=settings, needs_prior=False)

    def predict(self, atoms, prior=None, stage="full"):
        return hydrogen(-2.01, atoms)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the store `dft` of two chains, the structure `chain.xyz`, and models by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HARMOSE_DEBUG", raising=False)
    with Store.create("dft", BASIS) as store:
        store.append(sample("one"))
        other = CHAIN.copy()
        other.set_cell(np.diag([2.2, 9, 9]))
        store.append(replace(sample("two"), structure=other))
    write_structures("chain.extxyz", CHAIN)
    place = checkpoint.load
    known = {"knowing": Knowing(), "modest": Knowing(valence=False)}
    monkeypatch.setattr(checkpoint, "load", lambda name: known.get(name) or place(name))
    return tmp_path


def run(command: str) -> int:
    return main(command.split())


def rows(path: str) -> tuple[list[str], list[str], np.ndarray]:
    """Comments, columns, and the columns of numbers of a file that was written."""
    lines = Path(path).read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    head, *body = list(csv.reader(lines[len(comments) :]))
    return comments, head, np.array([[float(x) for k, x in enumerate(row) if head[k] != "point"] for row in body])


def cells(out: str) -> dict[str, list[str]]:
    """Rows of a printed table by their first cell."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {line[0]: line[1:] for line in lines}


def energy(k: np.ndarray, hopping: float) -> np.ndarray:
    s = [overlap(CHAIN, BASIS).block(0, 0, (n, 0, 0)).item() for n in (1, 2, 3)]
    h = [hopping, hopping / 10, hopping / 10]
    waves = [2 * np.cos(2 * np.pi * n * k) for n in (1, 2, 3)]
    return (-3 + sum(a * w for a, w in zip(h, waves))) / (1 + sum(a * w for a, w in zip(s, waves)))


def test_bands_of_a_sample(capsys):
    assert run("bands dft one --path GX --points 11 --window -10 50 --mesh 30x1x1 --out b.png") == 0
    printed = capsys.readouterr().out
    table = cells(printed)
    level = float(table["Fermi level (eV)"][0])
    assert table["gap on the path (eV)"] == ["0 (metal)"]
    assert printed.splitlines()[-2:] == ["b.png", "b.csv"]
    assert Path("b.png").read_bytes().startswith(b"\x89PNG")
    comments, head, values = rows("b.csv")
    assert head == ["x (1/angstrom)", "k1", "k2", "k3", "point", "DFT 1 (eV)"]
    assert f"{level:.6f} eV on the scale of H" in comments[-1]
    assert len(values) == 11
    np.testing.assert_allclose(values[:, 0], np.linspace(0, np.pi / 2, 11), atol=1e-7)
    np.testing.assert_allclose(values[:, 4], energy(values[:, 1], -2.0) - level, atol=2e-6)
    text = Path("b.csv").read_text().splitlines()[len(comments) + 1 :]
    assert [line.split(",")[4] for line in text] == ["G", *[""] * 9, "X"]


def test_a_prediction_over_dft(capsys):
    command = "bands knowing chain.extxyz --reference dft --window -10 50 --out b.csv"
    assert run(command) == 0
    printed = capsys.readouterr().out
    dft, predicted = (float(x) for x in cells(printed)["Fermi level (eV)"])
    assert 0 < abs(dft - predicted) < 0.05
    _, head, values = rows("b.csv")
    assert head[-2:] == ["DFT 1 (eV)", "prediction 1 (eV)"]
    k, first, second = values[:, 1], values[:, 4], values[:, 5]
    np.testing.assert_allclose(first, energy(k, -2.0) - dft, atol=2e-6)
    shift = float(printed.split("the prediction moved by ")[1].split(" eV")[0])
    np.testing.assert_allclose(second, energy(k, -2.01) + shift - dft, atol=2e-6)
    occupied = energy(k, -2.0) <= dft
    assert shift == pytest.approx(np.median((energy(k, -2.0) - energy(k, -2.01))[occupied]), abs=1e-5)
    error = float(printed.split("mean absolute error ")[1].split(" meV")[0])
    assert error == pytest.approx(1e3 * np.abs(first - second).mean(), abs=2e-3)
    assert "no ghost states" in printed
    assert run(f"{command} --align fermi") == 2
    assert "b.csv: exists already; --force replaces it" in capsys.readouterr().err
    assert run(f"{command} --align fermi --force") == 0
    shift = float(capsys.readouterr().out.split("the prediction moved by ")[1].split(" eV")[0])
    assert shift == pytest.approx(dft - predicted, abs=1e-5)


def test_a_stored_prediction_takes_what_it_lacks_from_dft(capsys):
    bare = sample("guess", -2.01, overlap=None, n_electrons=None, provenance={"kind": "prediction"})
    write("guess.npz", bare)
    assert run("bands guess.npz --reference dft --window -10 50") == 0
    once = capsys.readouterr().out
    assert run("bands knowing chain.extxyz --reference dft --window -10 50") == 0
    assert capsys.readouterr().out == once
    assert run("dos guess.npz --reference dft --window -10 50") == 0


def test_density_of_states(capsys):
    assert run("dos dft one --by l --window -20 60 --points 2001 --out d.png") == 0
    table = cells(capsys.readouterr().out)
    assert float(table["states in the window"][0]) == pytest.approx(1, abs=1e-3)
    assert table["H s"] == table["states in the window"]
    comments, head, values = rows("d.csv")
    assert head == ["energy (eV)", "DFT total (1/eV)", "DFT H s (1/eV)"]
    assert "states per eV and cell; without spin each holds two electrons" in comments[1]
    assert np.trapezoid(values[:, 1], values[:, 0]) == pytest.approx(1, abs=1e-3)
    below = values[:, 0] <= 0
    assert 2 * np.trapezoid(values[below, 1], values[below, 0]) == pytest.approx(1, abs=0.05)
    assert run("dos knowing chain.extxyz --reference dft --tetrahedra --mesh 24x1x1 --out two.csv") == 0
    assert rows("two.csv")[1] == ["energy (eV)", "DFT total (1/eV)", "prediction total (1/eV)"]


def test_density_of_states_of_a_molecule(capsys, water_store):
    assert main(["dos", str(water_store), "water-0", "--by", "element", "--window", "-2000", "200"]) == 0
    table = cells(capsys.readouterr().out)
    assert float(table["states in the window"][0]) == pytest.approx(7, abs=1e-2)
    assert float(table["O"][0]) + float(table["H"][0]) == pytest.approx(7, abs=1e-2)


def test_collinear_bands(capsys):
    up = hydrogen()
    both = BlockMatrix(BASIS, up.numbers, up.pairs, np.concatenate([up.values, up.values + 0.5]), Spin.COLLINEAR)
    write("magnet.npz", replace(sample("magnet"), hamiltonian=both, spin=Spin.COLLINEAR))
    assert run("bands magnet.npz --window -10 50 --out m.png") == 0
    assert rows("m.csv")[1][-2:] == ["DFT up 1 (eV)", "DFT down 1 (eV)"]
    assert run("dos magnet.npz --window -10 50 --by atom --out n.png") == 0
    columns = ["DFT up total (1/eV)", "DFT down total (1/eV)", "DFT up H 0 (1/eV)", "DFT down H 0 (1/eV)"]
    assert rows("n.csv")[1][1:] == columns


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("bands dft one --path GMKG", "one: k-path: expected points among G, X of this one-dimensional cell, got 'GMKG'"),
        ("bands dft one --points 1", "expected 2 to 100000 points"),
        ("bands dft one --window 500 600", "window: there is no band from 500 to 600 eV; they lie from"),
        ("bands dft one --window 5 -5", "the lower first, got 5 and -5"),
        ("bands dft one --mesh 3x3", "k-mesh: expected a size such as 15x15x1, got '3x3'"),
        ("bands dft one --electrons 5", "one: Fermi level: expected more than 0 and less than 2 electrons, got 5"),
        ("bands dft one --align middle", "--align: expected occupied or fermi, got 'middle'"),
        ("bands dft one --out bands.jpg", "--out: expected a file .png, .pdf, .svg or .csv, got 'bands.jpg'"),
        ("bands dft one --out no/bands.png", "no/bands.png: there is no folder no"),
        ("bands dft three", "dft: no sample named 'three'"),
        ("bands dft", "expected the name of one of its 2 samples"),
        ("bands nothing.npz", "nothing.npz: no such file or folder"),
        ("bands dft two --reference one.npz", "one.npz: none of its 1 samples has the structure of 'two'"),
        ("bands water.npz", "water-0: k-path: expected a crystal, got a molecule (H2O, no periodic direction)"),
        ("bands bare.npz", "bare: bands: the basis is not orthogonal, so the overlap S is needed beside H; got no S"),
        ("dos bare.npz", "bare: density of states: the basis is not orthogonal, so the overlap S is needed"),
        ("bands unknown.npz", "unknown: neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("dos unknown.npz", "unknown: neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("bands one.npz --reference unknown.npz", ""),
        ("bands modest chain.extxyz", "neither the Fermi level nor the number of electrons is known; give --electrons"),
        ("bands ignorant chain.extxyz", "ignorant: no such model"),
        ("bands knowing nothing.xyz", "nothing.xyz: no such"),
        ("dos dft one --by colour", "one: projection: expected one of element, atom, shell, l, got 'colour'"),
        ("dos dft one --width 0", "expected a positive width in eV, got 0.0"),
        ("dos dft one --window 500 600", "window: there are no states from 500 to 600 eV"),
        ("dos dft one --points 1", "expected 2 to 1000000 points"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(command, words, water_sample, capsys):
    write("one.npz", sample("one"))
    write("bare.npz", sample("bare", overlap=None))
    write("unknown.npz", sample("unknown", n_electrons=None))
    write("water.npz", water_sample(0))
    before = sorted(Path().iterdir())
    code = run(command)
    captured = capsys.readouterr()
    if not words:  # electrons are known of one of the two
        assert code == 0
        return
    assert code == 2
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(Path().iterdir()) == before


def test_electrons_may_be_given(capsys):
    write("unknown.npz", sample("unknown", n_electrons=None))
    assert run("bands unknown.npz --electrons 1 --window -10 50 --mesh 30x1x1") == 0
    given = cells(capsys.readouterr().out)
    assert run("bands dft one --window -10 50 --mesh 30x1x1") == 0
    assert cells(capsys.readouterr().out) == given


def test_states_around_the_fermi_level(capsys):
    assert run("bands dft one --path GX --points 5 --window -10 50 --around-fermi 1 --mesh 30x1x1 --out b.csv") == 0
    _, head, values = rows("b.csv")
    assert head[-1] == "DFT 1 (eV)"
    level = float(cells(capsys.readouterr().out)["Fermi level (eV)"][0])
    np.testing.assert_allclose(values[:, 4], energy(values[:, 1], -2.0) - level, atol=2e-6)
    assert run("bands dft one --around-fermi 2") == 2
    assert "expected 1 to 1 states, got 2" in capsys.readouterr().err
    assert run("bands knowing chain.extxyz --reference dft --around-fermi 1") == 2
    assert "--around-fermi: expected no --reference" in capsys.readouterr().err


def test_the_density_by_kernel_polynomials(capsys):
    """One orbital at Gamma: one level."""
    command = "dos dft one --method kpm --electrons 1 --window -2 2 --moments 400 --vectors 2 --points 401 --out d.csv"
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "400 moments, 2 vectors" in printed
    assert "1.0 states of 1; Fermi level within" in printed
    _, _, values = rows("d.csv")
    assert len(values) == 401
    assert values[:, 1].min() > -1e-3  # moments are sums of float32
    for wrong, message in (("--method dft", "expected dense or kpm"), ("--method kpm --by l", "--by: expected --method dense"),
                           ("--method kpm --moments 3", "even number")):  # fmt: skip
        assert run(f"dos dft one {wrong}") == 2
        assert message in capsys.readouterr().err
