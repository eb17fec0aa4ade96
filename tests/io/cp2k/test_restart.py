"""CP2K's restart file: its layout, its density matrix, and runs of CP2K that start from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tests.io.cp2k.cp2k_runs import needs_cp2k, run

from harmose.core.sample import Sample
from harmose.errors import FormatError, MatrixError
from harmose.io.cp2k.basis_data import find_kinds
from harmose.io.cp2k.cp2k import read_cp2k
from harmose.io.cp2k.input import CP2KSettings, input_file
from harmose.io.cp2k.output import read_output
from harmose.io.cp2k.restart import write_restart
from harmose.label.cp2k import data_folder
from harmose.physics.crystal_density import crystal_density
from harmose.physics.kmesh import monkhorst_pack_mesh
from harmose.physics.occupations import BOLTZMANN, FermiDirac
from harmose.spin import Spin

FAST = CP2KSettings(basis="SZV-MOLOPT-SR-GTH", kmesh=(3, 1, 1), cutoff=60, rel_cutoff=15, eps_scf=1e-7, smearing=3000.0)


def records(path: Path) -> list[bytes]:
    raw, at, out = path.read_bytes(), 0, []
    while at < len(raw):
        length = int(np.frombuffer(raw[at : at + 4], "<i4")[0])
        out.append(raw[at + 4 : at + 4 + length])
        assert raw[at + 4 + length : at + 8 + length] == raw[at : at + 4]
        at += 8 + length
    return out


def read_restart(path: Path) -> tuple[list[list[int]], dict[tuple[int, ...], np.ndarray]]:
    """Return the five records of the head, and P by (spin, Rx, Ry, Rz)."""
    parts = iter(records(path))
    head = [np.frombuffer(next(parts), "<i4").tolist() for _ in range(5)]
    n, matrices, spin, spins = head[1][1], {}, 0, 1
    while spin < spins:
        spin, spins, images = np.frombuffer(next(parts), "<i4").tolist()
        for image in range(1, images + 1):
            number, *cell = np.frombuffer(next(parts), "<i4").tolist()
            assert number == image
            matrices[spin, *cell] = np.stack([np.frombuffer(next(parts), "<f8") for _ in range(n)], axis=1)
    assert next(parts, None) is None
    return head, matrices


def with_structure(sample: Sample, **changes) -> Sample:
    structure = sample.structure.copy()
    for name, value in changes.items():
        setattr(structure, name, value)
    return replace(sample, structure=structure)


def test_layout_and_density(chain, tmp_path):
    """Two atoms that CP2K wraps into different cells: P(R) of the pair is D of another R, in the direction of CP2K."""
    sample, mesh, smearing = read_cp2k(chain), monkhorst_pack_mesh((3, 2, 1)), FermiDirac(0.3)
    write_restart(tmp_path / "x-RESTART.kp", sample, 2.0, mesh, smearing)
    head, found = read_restart(tmp_path / "x-RESTART.kp")
    assert head == [[1], [2, 10, 1, 3], [1, 1], [3, 3], [1, 1, 3, 1, 1, 3]]
    d = crystal_density(sample.hamiltonian, sample.overlap, 2.0, mesh, smearing)
    fractional = sample.structure.cell.scaled_positions(sample.structure.positions)
    wrap = np.round(fractional).astype(int) * sample.structure.pbc
    assert (wrap[0] != wrap[1]).any()
    for i, j, *r in d.keys.tolist():
        rows, cols = slice(5 * i, 5 * i + 5), slice(5 * j, 5 * j + 5)
        cell = np.array(r) - wrap[i] + wrap[j]
        # of 0 and 1, whose sum is odd, the direction from 1 to 0 is the one of the file
        p = found[1, *(cell if i == j else -cell).tolist()]
        np.testing.assert_allclose(p[rows, cols], d.block(i, j, tuple(r)), atol=1e-12)
        if i != j:
            np.testing.assert_array_equal(p[cols, rows], p[rows, cols].T)


def test_two_spins(chain, tmp_path):
    sample = read_cp2k(chain)
    both = np.concatenate([sample.hamiltonian.values - 40 * sample.overlap.values, sample.hamiltonian.values])
    h = replace(sample.hamiltonian, values=both, spin=Spin.COLLINEAR)
    write_restart(
        tmp_path / "x", replace(sample, hamiltonian=h, spin=Spin.COLLINEAR), 2.0, monkhorst_pack_mesh((1, 1, 1))
    )
    _, found = read_restart(tmp_path / "x")
    assert {spin for spin, *_ in found} == {1, 2}
    s = sample.overlap.dense()
    up, down = (np.sum(found[spin, 0, 0, 0] * s) for spin in (1, 2))  # at Gamma P is the same in every image
    assert up == pytest.approx(2.0, abs=1e-6)
    assert down == pytest.approx(0.0, abs=1e-6)


def test_refused(chain, tmp_path):
    sample, mesh = read_cp2k(chain), monkhorst_pack_mesh((1, 1, 1))

    def message(changed: Sample, kind: type[Exception] = FormatError) -> str:
        with pytest.raises(kind) as error:
            write_restart(tmp_path / "x", changed, 2.0, mesh)
        assert not list(tmp_path.glob("*x*"))
        return str(error.value)

    assert "overlap S is needed" in message(replace(sample, overlap=None), MatrixError)
    h = sample.hamiltonian
    spinor = replace(h, values=np.zeros((4, h.values.shape[1]), complex), spin=Spin.SPINOR)
    assert "expected spin none or collinear for CP2K" in message(replace(sample, hamiltonian=spinor, spin=Spin.SPINOR))
    assert "expected a crystal with three lattice vectors" in message(with_structure(sample, cell=None, pbc=False))
    cell, pbc = sample.structure.cell.array, sample.structure.pbc
    on_border = sample.structure.positions - sample.structure.positions[1] + cell[0] / 2
    text = message(with_structure(sample, positions=on_border, pbc=(True, *pbc[1:])))
    assert "no atom at one half of a lattice vector" in text
    assert "got atom 1 at [0.5, " in text
    apart = np.array([[0.1, 0.1, 0.4], [0.2, 0.1, 0.6]]) @ cell
    text = message(with_structure(sample, positions=apart, pbc=(True, True, False)))
    assert "atoms on both sides of one half" in text


@needs_cp2k
def test_cp2k_starts_converged(tmp_path):
    """From the density of its own converged H, CP2K has the density that it had, in two steps (the first only makes one).

    s and p orbitals without symmetry, a mesh on which R and -R differ, pairs of atoms of both directions, an atom outside
    the cell. CP2K's own restart file has the same numbers wherever it has any.
    """
    positions = [[0.1, 0.0, 0.2], [1.3, 0.3, 0.0], [2.3 + 3.4, 0.0, 0.4]]
    atoms = Atoms("HBN", positions, cell=[3.4, 7.0, 7.0], pbc=(True, False, False))
    kinds = find_kinds(set(atoms.numbers.tolist()), FAST.basis, str(FAST.potential), data_folder())
    text = input_file(atoms, FAST, kinds).replace("&RESTART OFF", "&RESTART ON")
    folder = run(tmp_path / "own", text)
    sample = read_cp2k(folder)
    assert sample.provenance["cycles"] > 8
    again = tmp_path / "again"
    again.mkdir()
    mesh, smearing = monkhorst_pack_mesh((3, 1, 1)), FermiDirac(FAST.smearing * BOLTZMANN)
    write_restart(again / "harmose-RESTART.kp", sample, sample.n_electrons, mesh, smearing)
    _, theirs = read_restart(folder / "harmose-RESTART.kp")
    _, ours = read_restart(again / "harmose-RESTART.kp")
    for key, p in theirs.items():
        np.testing.assert_allclose(np.where(p != 0, ours[key], 0), p, atol=1e-5)
    run(again, text.replace("SCF_GUESS ATOMIC", "SCF_GUESS RESTART"))
    output = read_output(again / "harmose.out")
    assert output.cycles <= 3
    assert output.energy == pytest.approx(sample.energy, abs=1e-4)
