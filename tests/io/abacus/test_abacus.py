"""ABACUS: eigenvalues agree with the code's own; S consists of two-centre integrals; random matrices of every spin."""

import shutil

import numpy as np
import pytest
from ase import Atoms
from tests.io.abacus.abacus_runs import BASIS, crystal, log_text, random_matrices, write_run

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import pair_vectors
from harmose.core.sample import check_sample
from harmose.errors import FormatError, MatrixError
from harmose.io.abacus.abacus import ABACUS, read_abacus
from harmose.io.abacus.csr import read_cell_matrices
from harmose.physics.eigen import eigenvalues
from harmose.so3.wigner import edge_wigner
from harmose.spin import Spin
from harmose.units import BOHR, RYDBERG

CRYSTAL = crystal()


def test_eigenvalues_agree_with_abacus(mos2):
    sample = read_abacus(mos2)
    check_sample(sample)
    parts = (mos2 / "OUT.ABACUS" / "istate.info").read_text().split("BAND")[1:]
    energies = np.array([[float(row.split()[1]) for row in part.splitlines()[1:] if row.strip()] for part in parts])
    kpoints = np.loadtxt(mos2 / "OUT.ABACUS" / "kpoints", skiprows=3, max_rows=3)[:, 1:4]
    ours = eigenvalues(sample.hamiltonian, sample.overlap, kpoints)[:, : energies.shape[1]]
    # ABACUS turns Ry into eV with 13.605698066
    np.testing.assert_allclose(ours, energies * RYDBERG / 13.605698066, atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours, energies, atol=5e-5, rtol=0)


def test_structure_basis_and_energies(mos2):
    sample = harmose.read(mos2)
    assert (sample.name, sample.spin, sample.n_electrons) == (mos2.name, Spin.NONE, 26)
    assert sample.fermi_level == pytest.approx(-2.3123356452)
    assert sample.energy == pytest.approx(-2423.217181100656)
    assert sample.provenance == {"code": "abacus", "version": "3.10.0"}
    assert {z: " ".join(map(str, shells)) for z, shells in sample.basis.shells.items()} == {
        42: "1s 2s 3s 4s 2p 3p 3d 4d 4f",
        16: "1s 2s 2p 3p 3d",
    }
    # 8 Bohr by the names of the orbital files and 2.82 Bohr of projectors
    assert dict(sample.basis.radii) == {42: 5.8, 16: 5.8}
    structure = sample.structure
    assert structure.get_chemical_symbols() == ["Mo", "S", "S"]
    assert structure.pbc.tolist() == [True, True, False]
    a = 5.9716 * BOHR
    np.testing.assert_allclose(
        structure.cell.array, a * np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [0, 0, 12]]), atol=1e-6
    )
    np.testing.assert_allclose(structure.positions[1], a * np.array([0.5, 0.28867513, 1.974192764]), atol=1e-8)
    assert read_abacus(mos2 / "OUT.ABACUS").name == "ABACUS"


def two_centre_defects(sample, operator: BlockMatrix, undone: bool = False) -> float:
    """How far the blocks of pairs are, in the frames of their edges, from diagonal in m and alike for m and -m."""
    vectors = pair_vectors(sample.structure, operator.pairs)
    rotations = {l: edge_wigner(l, vectors) for l in range(sample.basis.l_max + 1)}
    n_atoms, worst = len(operator.numbers), 0.0
    for (z1, z2), index, where in operator.groups():
        pair = index >= n_atoms
        blocks, edges = operator.values[0][where[pair]], index[pair] - n_atoms
        starts = [np.cumsum([0, *(2 * l + 1 for l in sample.basis.degrees(z))]) for z in (z1, z2)]
        for a, l1 in enumerate(sample.basis.degrees(z1)):
            for b, l2 in enumerate(sample.basis.degrees(z2)):
                part = blocks[:, starts[0][a] : starts[0][a + 1], starts[1][b] : starts[1][b + 1]]
                if undone:
                    part = part * np.outer(*(ABACUS.indices([l])[1] for l in (l1, l2)))
                part = rotations[l1][edges] @ part @ rotations[l2][edges].swapaxes(-1, -2)
                m1, m2 = np.arange(-l1, l1 + 1)[:, None], np.arange(-l2, l2 + 1)
                worst = max(worst, np.abs(part[:, m1 != m2]).max(initial=0))
                for m in range(1, min(l1, l2) + 1):
                    worst = max(worst, np.abs(part[:, l1 + m, l2 + m] - part[:, l1 - m, l2 - m]).max(initial=0))
    return worst


def test_overlap_is_two_centre_up_to_f(mos2):
    """Holds for our orders and signs only, for every pair of shells s to f and 220 distances and directions."""
    sample = read_abacus(mos2)
    assert two_centre_defects(sample, sample.overlap) < 2e-6
    assert two_centre_defects(sample, sample.overlap, undone=True) > 0.1


def test_order_and_signs():
    """In words: p is (z, -x, -y), d (z2, -xz, -yz, x2-y2, xy)."""
    index, sign = ABACUS.indices([1, 2])
    assert index.tolist() == [2, 0, 1, *(3 + k for k in (4, 2, 0, 1, 3))]
    assert sign.tolist() == [-1, 1, -1, 1, -1, 1, -1, 1]


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("new", [False, True])
def test_matrices_of_every_spin(tmp_path, spin, new):
    h, s = random_matrices(CRYSTAL, spin)
    write_run(tmp_path, CRYSTAL, h, s, new, direct=new)
    sample = read_abacus(tmp_path, BASIS)
    assert (sample.name, sample.spin, sample.n_electrons, sample.fermi_level) == ("known", spin, 14, 0.5)
    assert sample.energy == -17.5
    np.testing.assert_allclose(sample.structure.positions, CRYSTAL.positions, atol=1e-6)
    np.testing.assert_allclose(sample.structure.cell.array, CRYSTAL.cell.array, atol=1e-6)
    assert sample.structure.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-10)
    np.testing.assert_allclose(sample.overlap.values, s.values, atol=1e-11)
    # measured: 3 + 1 Bohr are not enough for the blocks of this basis
    own = read_abacus(tmp_path).basis
    assert all(own.radii[z] >= 4 * BOHR for z in (6, 8))
    assert own.shells == BASIS.shells


def test_gamma_only_run_of_a_crystal_is_refused(tmp_path):
    """One matrix for R = 0: a molecule where no atom reaches an image, else not what H(R) is."""
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    out = write_run(tmp_path, CRYSTAL, h, s, new=False)
    for name in ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"):
        matrix = read_cell_matrices(out / name)
        dense = np.zeros((matrix.size, matrix.size))
        np.add.at(dense, (matrix.rows, matrix.cols), matrix.values)
        dense = (dense + dense.T) / 2
        cols = np.tile(np.arange(matrix.size), matrix.size)
        starts = np.arange(matrix.size + 1) * matrix.size
        lines = [
            "STEP: 0",
            f"Matrix Dimension of H(R): {matrix.size}",
            "Matrix number of H(R): 1",
            f"0 0 0 {dense.size}",
        ]
        lines += [" ".join(map(repr, dense.ravel().tolist())), " ".join(map(str, cols)), " ".join(map(str, starts))]
        (out / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(
        FormatError, match=r"their sum at the Gamma point: atom \d reaches atom \d in cell .*gamma_only 0"
    ):
        read_abacus(tmp_path, BASIS)
    large = Atoms(CRYSTAL.symbols, CRYSTAL.positions, cell=[30, 30, 30], pbc=True)
    (out / "running_scf.log").write_text(log_text(large, 1))
    molecule = read_abacus(tmp_path, BASIS)
    assert not molecule.structure.pbc.any()
    assert not molecule.hamiltonian.pairs[:, 2:].any()


def test_radii_from_names_of_orbital_files(tmp_path):
    """With the projectors' 1 Bohr: 8 and 10.5 Bohr, rounded up to 0.1 angstrom; without the names, at least 3 + 1 Bohr."""
    write_run(tmp_path, CRYSTAL, *random_matrices(CRYSTAL, Spin.NONE), new=True)
    assert all(2.2 <= radius < 4 for radius in read_abacus(tmp_path).basis.radii.values())
    names = "C_gga_7au_60Ry_1s1p.orb\nO_gga_9.5au_60Ry_1s1p1d.orb"
    (tmp_path / "STRU").write_text(
        f"ATOMIC_SPECIES\nC1 12 C.upf\n\nNUMERICAL_ORBITAL # files\n{names}\n\nLATTICE_CONSTANT\n1\n"
    )
    assert dict(read_abacus(tmp_path).basis.radii) == {6: 4.3, 8: 5.6}


def test_missing_and_wrong_images(tmp_path):
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    out = write_run(tmp_path, CRYSTAL, h, s, new=False)
    path = out / "data-HR-sparse_SPIN0.csr"
    text = path.read_text()
    lines = text.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("1 0 0 "))
    without = [*lines[:2], f"Matrix number of H(R): {int(lines[2].split()[-1]) - 1}", *lines[3:at], *lines[at + 4 :]]
    path.write_text("\n".join(without) + "\n")
    with pytest.raises(
        MatrixError, match=r"SPIN0.csr: expected block .* written in .*R=\[-1, 0, 0\]\) and not in .*R=\[1, 0, 0\]"
    ):
        read_abacus(tmp_path, BASIS)
    lines[at + 1] = " ".join(["3.25", *lines[at + 1].split()[1:]])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(MatrixError, match=r"SPIN0.csr: expected block .* to be the adjoint .* differ by"):
        read_abacus(tmp_path, BASIS)


def test_missing_overlap_and_wrong_number_of_spins(tmp_path):
    h, s = random_matrices(CRYSTAL, Spin.COLLINEAR)
    out = write_run(tmp_path, CRYSTAL, h, s, new=True)
    (out / "running_scf.log").write_text(log_text(CRYSTAL, 1))
    with pytest.raises(
        FormatError, match=r"expected the matrices of nspin = 1, as the log says, got those of nspin = 2"
    ):
        read_abacus(tmp_path)
    (out / "running_scf.log").write_text(log_text(CRYSTAL, 2))
    (out / "hrs2_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"nspin = 2, as the log says, got those of nspin = 1 \(hrs1_nao.csr\)"):
        read_abacus(tmp_path)
    (out / "running_scf.log").write_text(log_text(CRYSTAL, 1))
    (out / "srs1_nao.csr").rename(out / "sr_nao.csr")
    assert read_abacus(tmp_path, BASIS).spin is Spin.NONE
    (out / "sr_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"expected the overlap beside H .*, got none"):
        read_abacus(tmp_path)
    shutil.copy(out / "hrs1_nao.csr", out / "hrs1_nao.csr.bak")
    (out / "hrs1_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"expected an OUT.\* folder of ABACUS with hrs1_nao.csr or data-HR"):
        read_abacus(tmp_path)


def test_other_folders(mos2, tmp_path):
    with pytest.raises(FormatError, match=r"expected an OUT.\* folder of ABACUS"):
        read_abacus(mos2.parent / "siesta-Si")
    with pytest.raises(FormatError, match=r"expected an OUT.\* folder of ABACUS"):
        read_abacus(tmp_path / "nothing")
    for name in ("OUT.a", "OUT.b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hrs1_nao.csr").touch()
    with pytest.raises(FormatError, match=r"expected one OUT.\* folder of ABACUS, got OUT.a, OUT.b"):
        read_abacus(tmp_path)
