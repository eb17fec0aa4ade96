"""ABACUS: eigenvalues agree with the code's own; S consists of two-centre integrals; random matrices of every spin."""

import shutil

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from tests.io.abacus.abacus_runs import BASIS, crystal, log_text, newest_log, random_matrices, write_run

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import pair_vectors
from harmose.core.sample import check_sample
from harmose.errors import FormatError, MatrixError
from harmose.io.abacus.abacus import ABACUS, read_abacus
from harmose.io.abacus.csr import read_cell_matrices
from harmose.io.files import read_overlap
from harmose.physics.eigen import eigenvalues
from harmose.physics.sparse.bloch import sparse_at
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
    assert sample.provenance == {
        "code": "abacus",
        "version": "3.10.0",
        "converged": True,
        "valence": {"Mo": 14.0, "S": 6.0},
    }
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


def fold(out) -> None:
    """Replace the matrices of a run by their sums over all cells, as `gamma_only 1` writes them."""
    for path in out.glob("*.csr"):
        matrix = read_cell_matrices(path)
        dense = np.zeros((matrix.size, matrix.size))
        np.add.at(dense, (matrix.rows, matrix.cols), matrix.values)
        cols = np.tile(np.arange(matrix.size), matrix.size)
        starts = np.arange(matrix.size + 1) * matrix.size
        head = [
            "STEP: 0",
            f"Matrix Dimension of H(R): {matrix.size}",
            "Matrix number of H(R): 1",
            f"0 0 0 {dense.size}",
        ]
        tables = [dense.ravel().tolist(), cols.tolist(), starts.tolist()]
        path.write_text("\n".join([*head, *(" ".join(map(repr, table)) for table in tables)]) + "\n")


@pytest.mark.parametrize("spin", [Spin.NONE, Spin.COLLINEAR])
def test_gamma_only_run_of_a_large_crystal(tmp_path, spin):
    """Where two atoms meet in one image only, H(R) is found in the sum over R."""
    large = Atoms("CCO", CRYSTAL.positions, cell=[[9.7, 0, 0], [0.3, 9.9, 0], [0, 0, 12.0]], pbc=[True, True, False])
    large.positions[1] += large.cell.array[0] - [2.0, 0, 0]  # two bonds cross into the next cell
    h, s = random_matrices(large, spin)
    assert h.pairs[:, 2:].any()
    out = write_run(tmp_path, large, h, s, new=False)
    expected = read_abacus(tmp_path, BASIS)
    fold(out)
    found = read_abacus(tmp_path, BASIS)
    assert found.structure.pbc.tolist() == expected.structure.pbc.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.hamiltonian.pairs, expected.hamiltonian.pairs)
    np.testing.assert_allclose(found.hamiltonian.values, expected.hamiltonian.values, atol=1e-9)
    np.testing.assert_allclose(found.overlap.values, expected.overlap.values, atol=1e-11)
    own = read_abacus(tmp_path)  # radii measured on nearest images
    k = np.array([[0.2, 0, 0]])
    np.testing.assert_allclose(eigenvalues(own.hamiltonian, own.overlap, k), eigenvalues(h, s, k), atol=1e-8)


def test_gamma_only_run_of_a_small_crystal_is_refused(tmp_path):
    """Two atoms meet in several images, and H(R) cannot be found in the sum over R."""
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    fold(write_run(tmp_path, CRYSTAL, h, s, new=False))
    with pytest.raises(
        FormatError, match=r"their sum at the Gamma point: atom \d reaches atom \d in cells .*gamma_only 0"
    ):
        read_abacus(tmp_path, BASIS)


def test_gamma_only_run_of_a_molecule(tmp_path):
    large = Atoms(CRYSTAL.symbols, CRYSTAL.positions, cell=[30, 30, 30], pbc=True)
    h, s = random_matrices(large, Spin.NONE)
    fold(write_run(tmp_path, large, h, s, new=False))
    molecule = read_abacus(tmp_path, BASIS)
    assert not molecule.structure.pbc.any()
    assert not molecule.hamiltonian.pairs[:, 2:].any()
    np.testing.assert_allclose(molecule.hamiltonian.values, h.values, atol=1e-9)


def test_convergence_and_charge_of_the_run(tmp_path):
    """Both come from files beside the matrices; without them they are not known."""
    out = write_run(tmp_path, CRYSTAL, *random_matrices(CRYSTAL, Spin.NONE), new=True)
    assert read_abacus(tmp_path, BASIS).provenance["converged"] is None
    log = (out / "running_scf.log").read_text()
    for words, converged in (
        ("charge density convergence is achieved", True),
        ("convergence has NOT been achieved!", False),
    ):
        (out / "running_scf.log").write_text(f"{log} {words}\n")
        assert read_abacus(tmp_path, BASIS).provenance["converged"] is converged
    (out / "INPUT").write_text("nelec 0\nnelec_delta -1 # a cation\n")
    assert read_abacus(tmp_path, BASIS).n_electrons == 13
    (out / "INPUT").write_text("nelec 12.5\n")
    assert read_abacus(tmp_path, BASIS).n_electrons == 12.5


@pytest.mark.parametrize("spin", list(Spin))
def test_files_of_version_3_11(tmp_path, spin):
    """One file of S for all spins; the step in the names without out_app_flag; other words in the log."""
    h, s = random_matrices(CRYSTAL, spin)
    out = write_run(tmp_path, CRYSTAL, h, s, new=True)
    (out / "running_scf.log").write_text(newest_log((out / "running_scf.log").read_text()))
    (out / "srs1_nao.csr").rename(out / "srg1_nao.csr")
    for path in list(out.glob("hrs?_nao.csr")):
        path.rename(out / path.name.replace("_nao", "g1_nao"))
    sample = harmose.read(tmp_path)
    assert sample.spin is spin
    assert (sample.provenance["version"], sample.provenance["converged"]) == ("3.11.0", True)
    k = np.array([[0.1, 0.3, 0]])
    np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap, k), eigenvalues(h, s, k), atol=1e-8)
    shutil.copy(out / "hrs1g1_nao.csr", out / "hrs1g2_nao.csr")
    with pytest.raises(FormatError, match=r"matrices of one geometry, got those of 2 steps \(.*hrs1g1_nao.csr"):
        read_abacus(tmp_path)


def test_eigenvalues_of_a_real_spinor_run(shared_data, tmp_path):
    """Upper triangles of ABACUS's own H(k) and S(k) at Gamma, in Ry, with five digits."""
    run = shared_data / "cases" / "passing" / "11-abacus-C-nspin4"
    h_k, s_k = (_upper_triangle(run / f"data-1-{letter}.ref") for letter in "HS")
    expected = scipy.linalg.eigh(h_k, s_k, eigvals_only=True) * RYDBERG
    sample = read_abacus(run)
    assert (sample.spin, sample.structure.get_chemical_symbols()) == (Spin.SPINOR, ["C"])
    np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap).ravel(), expected, atol=2e-4)
    newest = tmp_path / "OUT.autotest"
    newest.mkdir()
    shutil.copy(run / "OUT.autotest" / "running_scf.log", newest)
    for old, name, letter in (("data-HR-sparse_SPIN0", "hrs1_nao", "H"), ("data-SR-sparse_SPIN0", "sr_nao", "S")):
        (newest / f"{name}.csr").write_text(
            _in_newest_layout((run / "OUT.autotest" / f"{old}.csr").read_text(), letter)
        )
    again = read_abacus(tmp_path)
    np.testing.assert_array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    np.testing.assert_array_equal(again.overlap.values, sample.overlap.values)


def _upper_triangle(path) -> np.ndarray:
    """Read `n (re,im) ...`, the upper triangle of a Hermitian matrix by rows."""
    words = path.read_text().replace("(", " ").replace(")", " ").replace(",", " ").split()
    n = int(words[0])
    numbers = np.array(words[1:], dtype=float)
    values = numbers.view(complex) if len(numbers) == n * (n + 1) else numbers
    matrix = np.zeros((n, n), dtype=values.dtype)
    matrix[np.triu_indices(n)] = values
    return matrix + np.triu(matrix, 1).conj().T


def _in_newest_layout(text: str, letter: str) -> str:
    head, cells, body = text.split("\n", 3)[1:]
    lines = body.splitlines()
    return "\n".join(
        [" --- Ionic Step 1 ---", f" # print {letter} matrix in real space {letter}(R)", " 1 # number of spin directions",
         " 1 # spin index", f" {head.split()[-1]} # number of localized basis",
         f" {cells.split()[-1]} # number of Bravais lattice vector R", "", " user_defined_lattice", " 1", " C", " 1", " Direct",
         " 0 0 0", "", " #     CSR Format     #", *lines[:1], " # CSR values", *lines[1:2], " # CSR column indices", *lines[2:3],
         " # CSR row pointers", *lines[3:]]
    ) + "\n"  # fmt: skip


def test_overlap_alone(tmp_path):
    """`calculation get_s` writes S and another log."""
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    out = write_run(tmp_path, CRYSTAL, h, s, new=True)
    for path in out.glob("hrs*"):
        path.unlink()
    (out / "running_scf.log").rename(out / "running_get_s.log")
    (out / "srs1_nao.csr").rename(out / "sr_nao.csr")
    found = read_overlap(tmp_path, CRYSTAL, BASIS)
    np.testing.assert_array_equal(found.pairs, s.pairs)
    np.testing.assert_allclose(found.values, s.values, atol=1e-11)
    moved = CRYSTAL.copy()
    moved.positions += [0.3, -0.2, 0.1]
    moved.positions[2] -= moved.cell.array[0]
    for overlap in (read_overlap(tmp_path, moved, BASIS), read_overlap(out, moved, BASIS)):
        k = (0.2, -0.4, 0.0)
        found, expected = (sparse_at(operator, k)[0].toarray() for operator in (overlap, s))
        np.testing.assert_allclose(np.linalg.eigvalsh(found), np.linalg.eigvalsh(expected), atol=1e-10)
    with pytest.raises(FormatError, match=r"OUT.known: expected H\(R\) and S\(R\) .* set out_mat_hs2 1"):
        harmose.read(tmp_path)


def test_several_output_folders_are_several_runs(tmp_path):
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    out = write_run(tmp_path, CRYSTAL, h, s, new=True)
    out.rename(tmp_path / "OUT.second")
    write_run(tmp_path, CRYSTAL, h, s, new=False)
    assert [sample.name for sample in harmose.read_all(tmp_path)] == ["OUT.known", "OUT.second"]


def test_matrices_of_two_versions_in_one_folder(tmp_path):
    h, s = random_matrices(CRYSTAL, Spin.NONE)
    for new in (True, False):
        write_run(tmp_path, CRYSTAL, h, s, new)
    with pytest.raises(FormatError, match=r"matrices of one run, got those of an old and a new version .*hrs1_nao.csr"):
        read_abacus(tmp_path)


def test_binary_matrices_are_not_text(tmp_path):
    out = write_run(tmp_path, CRYSTAL, *random_matrices(CRYSTAL, Spin.NONE), new=True)
    (out / "hrs1_nao.csr").rename(out / "hrs1_nao.dat")
    with pytest.raises(
        FormatError, match=r"as text, got hrs1_nao.dat, which is not text; set out_mat_hs2 1 .*out_hsr 1"
    ):
        harmose.read(tmp_path)


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
    with pytest.raises(FormatError, match=r"OUT.known: expected H\(R\) and S\(R\) .* set out_mat_hs2 1 .*INPUT"):
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
