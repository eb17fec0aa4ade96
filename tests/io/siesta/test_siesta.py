"""SIESTA: the code's own eigenvalues, integrals over its orbitals, the symmetry of its crystals, and damaged files."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.interpolate import CubicSpline
from scipy.io import netcdf_file
from tests.io.siesta.siesta_runs import BASIS, random_matrices, write_folded, write_orbital_table, write_with_sisl

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample, check_sample
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.io.siesta.siesta import SIESTA, read_siesta
from harmose.physics.eigen import eigenvalues
from harmose.so3.wigner import shells_wigner
from harmose.spin import Spin
from harmose.units import BOHR, RYDBERG

RUNS = {"siesta-Si": ("Si", 8), "siesta-Fe": ("fe", 9), "siesta-Pt2-soc": ("Pt2_xx", 1)}
"""Folder -> label, and divisions of the k-grid."""


@pytest.fixture(scope="module")
def runs(shared_data) -> Path:
    return shared_data / "dft-outputs"


def reference(folder: Path, sample: Sample) -> tuple[np.ndarray, np.ndarray, float]:
    """k-points of `.KP`, moved to the grid from which its six digits were rounded; energies and Fermi level of `.EIG`."""
    label, divisions = RUNS[folder.name]
    cartesian = np.loadtxt(folder / f"{label}.KP", skiprows=1, ndmin=2)[:, 1:4] / BOHR
    k = cartesian @ sample.structure.cell.array.T / (2 * np.pi)
    on_grid = np.round(2 * divisions * k) / (2 * divisions)
    np.testing.assert_allclose(k, on_grid, atol=5e-6)
    words = (folder / f"{label}.EIG").read_text().split()
    n_bands, _, n_k = map(int, words[1:4])
    energies = np.array(words[4:], dtype=float).reshape(n_k, -1)[:, 1:]
    if sample.spin is Spin.COLLINEAR:
        energies = energies.reshape(n_k, 2, n_bands).transpose(1, 0, 2)
    return on_grid, energies, float(words[0])


@pytest.mark.parametrize(
    ("path", "spin", "n_electrons", "tolerance"),
    [
        ("siesta-Si", Spin.NONE, 8, 2e-4),
        ("siesta-Fe", Spin.COLLINEAR, 16, 5e-5),
        ("siesta-Pt2-soc", Spin.SPINOR, 36, 1e-6),
        ("siesta-Pt2-soc/Pt2_xx.TSHS", Spin.SPINOR, 36, 1e-6),
    ],
)
def test_eigenvalues_agree_with_siesta(runs, path, spin, n_electrons, tolerance):
    folder = runs / path.split("/")[0]
    sample = read_siesta(runs / path)
    check_sample(sample)
    assert (sample.name, sample.spin, sample.n_electrons) == (RUNS[folder.name][0], spin, n_electrons)
    kpoints, energies, fermi_level = reference(folder, sample)
    assert sample.fermi_level == pytest.approx(fermi_level, abs=1e-6)
    np.testing.assert_allclose(
        eigenvalues(sample.hamiltonian, sample.overlap, kpoints), energies, atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("run", RUNS)
def test_shells_and_radii(runs, run):
    sample = read_siesta(runs / run)
    (shells,) = sample.basis.shells.values()
    assert (
        " ".join(map(str, shells))
        == {
            "siesta-Si": "3s 3s' 3p 3p' 3d",
            "siesta-Fe": "3s 4s 4s' 3p 4p 3d 3d'",
            "siesta-Pt2-soc": "5s 6s 6s' 5p 6p 5d 5d'",
        }[run]
    )
    # by .ion.nc: 6.844 + 1.942 Bohr, 7.400 + 1.587 Bohr, 6.641 + 1.942 Bohr
    assert (
        dict(sample.basis.radii) == {"siesta-Si": {14: 4.7}, "siesta-Fe": {26: 4.8}, "siesta-Pt2-soc": {78: 4.6}}[run]
    )
    assert list(sample.structure.pbc) == [run != "siesta-Pt2-soc"] * 3


def harmonics(l: int, v: np.ndarray) -> np.ndarray:
    """r^l Y(l, m) by the table of docs/conventions.md, (2l + 1, points)."""
    x, y, z = v.T
    r2 = (v**2).sum(axis=1)
    rows = {
        0: [np.ones_like(x)],
        1: [y, z, x],
        2: [3**0.5 * x * y, 3**0.5 * y * z, (3 * z**2 - r2) / 2, 3**0.5 * x * z, 3**0.5 / 2 * (x**2 - y**2)],
    }[l]
    return np.sqrt((2 * l + 1) / (4 * np.pi)) * np.array(rows)


def test_overlap_agrees_with_numerical_integrals(runs):
    """Fixes the sign of every orbital: two silicon atoms, 70 x 70 x 70 Gauss points in the box where both have orbitals."""
    sample = read_siesta(runs / "siesta-Si")
    with netcdf_file(runs / "siesta-Si" / "Si.ion.nc", mmap=False) as file:
        tables = {name: np.array(file.variables[name][:]) for name in ("orbnl_l", "delta", "cutoff", "orb")}

    def orbitals(v: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(v, axis=1)
        out = []
        for l, step, cutoff, radial in zip(tables["orbnl_l"], tables["delta"], tables["cutoff"], tables["orb"]):
            spline = CubicSpline(step * np.arange(len(radial)), radial)
            out.append(harmonics(int(l), v) * np.where(r < cutoff, spline(np.minimum(r, cutoff)), 0))
        return np.concatenate(out)

    d = (sample.structure.positions[1] - sample.structure.positions[0]) / BOHR
    reach = tables["cutoff"].max()
    low, high = np.maximum(-reach, d - reach), np.minimum(reach, d + reach)
    x, w = np.polynomial.legendre.leggauss(70)
    points = [(a + b) / 2 + (b - a) / 2 * x for a, b in zip(low, high)]
    grid = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.einsum("i,j,k->ijk", w, w, w).ravel() * np.prod((high - low) / 2)
    expected = (orbitals(grid) * weights) @ orbitals(grid - d).T
    np.testing.assert_allclose(sample.overlap.block(0, 1), expected, atol=5e-6)


def rotations_of(atoms: Atoms) -> list[np.ndarray]:
    """Proper rotations about atom 0 that map the crystal onto itself with every atom on its own sublattice."""
    signs = np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).reshape(3, -1).T
    orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]]
    cubic = [np.diag(s)[o] for s in signs for o in orders]
    inverse = np.linalg.inv(atoms.cell.array)
    from_zero = atoms.positions - atoms.positions[0]

    def keeps(q: np.ndarray) -> bool:
        moved = np.concatenate([atoms.cell.array @ q.T, from_zero @ q.T - from_zero]) @ inverse
        return bool(np.abs(moved - np.round(moved)).max() < 1e-6)

    return [q for q in cubic if np.linalg.det(q) > 0 and keeps(q)]


def symmetry_breaking(sample: Sample, operator, convention_undone: bool = False) -> float:
    """max |D(Q) H[i, j, R] D(Q)^T - H[i, j, R']| over all rotations, R' being where Q takes the pair."""
    atoms, matrix = sample.structure, operator
    keys = matrix.keys
    from_zero = atoms.positions - atoms.positions[0]
    inverse = np.linalg.inv(atoms.cell.array)
    (z,) = set(atoms.numbers.tolist())
    degrees = sample.basis.degrees(z)
    n = sample.basis.n_orbitals(z)
    signs = SIESTA.indices(degrees)[1] if convention_undone else np.ones(n)
    blocks = matrix.values.reshape(len(matrix.values), -1, n, n) * np.outer(signs, signs)
    where = {tuple(key): k for k, key in enumerate(keys.tolist())}
    worst = 0.0
    rotations = rotations_of(atoms)
    for q in rotations:
        vectors = from_zero[keys[:, 1]] + keys[:, 2:] @ atoms.cell.array - from_zero[keys[:, 0]]
        cells = (vectors @ q.T - from_zero[keys[:, 1]] + from_zero[keys[:, 0]]) @ inverse
        image = np.column_stack([keys[:, :2], np.round(cells).astype(int)])
        turned = [tuple(key) not in where for key in image.tolist()]
        stored = np.where(np.array(turned)[:, None], np.column_stack([image[:, [1, 0]], -image[:, 2:]]), image)
        found = blocks[:, [where[tuple(key)] for key in stored.tolist()]]
        found[:, turned] = found[:, turned].swapaxes(-1, -2)
        d = shells_wigner(degrees, q.astype(float))
        worst = max(worst, float(np.abs(d @ blocks @ d.T - found).max()))
    return worst


@pytest.mark.parametrize(
    ("run", "n_rotations", "h_tolerance", "s_tolerance"),
    [("siesta-Si", 12, 5e-3, 2e-6), ("siesta-Fe", 24, 2e-2, 2e-6)],
)
def test_blocks_have_the_symmetry_of_the_crystal(runs, run, n_rotations, h_tolerance, s_tolerance):
    """Site symmetry of on-site blocks, and hopping to equivalent neighbours; H within what SIESTA's real-space grid breaks."""
    sample = read_siesta(runs / run)
    assert len(rotations_of(sample.structure)) == n_rotations
    assert symmetry_breaking(sample, sample.overlap) < s_tolerance
    assert symmetry_breaking(sample, sample.hamiltonian) < h_tolerance
    # with SIESTA's own signs the same law does not hold
    assert symmetry_breaking(sample, sample.overlap, convention_undone=True) > 0.1
    assert symmetry_breaking(sample, sample.hamiltonian, convention_undone=True) > 1


def test_spin_orbit_coupling_of_platinum_is_l_dot_sigma(runs):
    """xi / 2 L . sigma with xi > 0, the same for x, y and z: H is neither its conjugate nor are u and d exchanged."""
    sample = read_siesta(runs / "siesta-Pt2-soc")
    block = sample.hamiltonian.block(0, 0)
    pauli = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    for start, l, expected in ((3, 1, 9.2), (9, 2, 0.54)):
        size = 2 * l + 1
        uu, ud, du, dd = block[:, start : start + size, start : start + size]
        h = np.block([[uu, ud], [du, dd]])
        for sigma, angular in zip(pauli, angular_momentum(l)):
            term = np.kron(sigma, angular)
            xi = 2 * np.vdot(term, h) / np.vdot(term, term)
            assert xi == pytest.approx(expected, rel=0.02)


def test_signs_agree_with_sisl():
    """f, which no run here has: sisl's real harmonics are SIESTA's; ours are e3nn's, of vectors as (y, z, x)."""
    import sisl
    import torch
    from e3nn import o3

    point, radii = np.array([[0.3, 0.5, 0.7]]), np.linspace(0, 5, 200)
    for l in range(1, 5):
        ours = o3.spherical_harmonics(l, torch.tensor(point[:, [1, 2, 0]]), normalize=True)[0].numpy()
        orbitals = [
            sisl.AtomicOrbital(n=5, l=l, m=m, zeta=1, spherical=(radii, np.exp(-radii))) for m in range(-l, l + 1)
        ]
        theirs = np.array([orbital.psi(point)[0] for orbital in orbitals])
        ratio = theirs / ours
        np.testing.assert_allclose(ratio / ratio[l], SIESTA.sign[l], atol=1e-6)


def angular_momentum(l: int) -> list[np.ndarray]:
    """Lx, Ly, Lz (units of hbar) between real harmonics m = -l..l: i times the generators of D(l)."""
    out = []
    for axis in range(3):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        step = 1e-4
        q = np.eye(3)
        q[[a, b], [a, b]] = np.cos(step)
        q[b, a], q[a, b] = np.sin(step), -np.sin(step)
        d = shells_wigner((l,), q)
        # a function turns by exp(-i angle L): Y'(x) = Y(Q^-1 x), coefficients by D
        out.append(1j * (d - d.T) / (2 * step))
    return out


def test_radii_from_other_files(runs, tmp_path):
    """Radii by the ion file, by .ORB_INDX, or by the blocks; the same energies; and in the basis of another run."""
    folder = runs / "siesta-Si"
    whole = read_siesta(folder)
    shutil.copy(folder / "Si.HSX", tmp_path)
    alone = read_siesta(tmp_path / "Si.HSX")
    shutil.copy(folder / "Si.ORB_INDX", tmp_path)
    shutil.copy(folder / "Si.XV", tmp_path)
    with_table = read_siesta(tmp_path)
    assert alone.structure.numbers.tolist() == [14, 14]
    assert 3.62 < with_table.basis.radii[14] <= whole.basis.radii[14]
    assert alone.basis.radii[14] <= whole.basis.radii[14]
    k = [[0.1, 0.2, 0.3]]
    expected = eigenvalues(whole.hamiltonian, whole.overlap, k)
    for other in (alone, with_table):
        np.testing.assert_allclose(eigenvalues(other.hamiltonian, other.overlap, k), expected, atol=1e-4)
    again = read_siesta(tmp_path, whole.basis)
    assert again.basis == whole.basis
    assert np.array_equal(again.hamiltonian.values, whole.hamiltonian.values)
    other_shells = BasisSet("siesta", {14: (Shell(3, 0),)}, {14: 4.7})
    with pytest.raises(BasisError, match=r"Si with the shells of basis siesta \(3s\), got 3s 3s' 3p"):
        read_siesta(tmp_path, other_shells)
    with pytest.raises(BasisError, match="Si with the shells of basis other"):
        read_siesta(tmp_path, BasisSet("other", {6: (Shell(2, 0),)}, {6: 3.0}))


def test_read_recognises_runs_and_their_files(runs, tmp_path):
    run = runs / "siesta-Fe"
    (tmp_path / "run.fdf").write_text("SystemLabel fe\n")
    for ending in ("HSX", "XV"):
        shutil.copy(run / f"fe.{ending}", tmp_path)
    for path in (run, run / "fe.HSX", tmp_path / "run.fdf"):
        assert harmose.read(path).hamiltonian.spin is Spin.COLLINEAR


def test_system_label_of_fdf(runs, tmp_path):
    for ending in ("HSX", "XV"):
        shutil.copy(runs / "siesta-Fe" / f"fe.{ending}", tmp_path)
        shutil.copy(runs / "siesta-Fe" / f"fe.{ending}", tmp_path / f"other.{ending}")
    (tmp_path / "run.fdf").write_text("# SystemLabel nothing\nsystem_label  fe   # iron\n")
    assert read_siesta(tmp_path / "run.fdf").name == "fe"
    with pytest.raises(FormatError, match=r"expected one SIESTA run.*got those of fe, other"):
        read_siesta(tmp_path)
    (tmp_path / "run.fdf").write_text("SystemLabel ../fe\n")
    with pytest.raises(FormatError, match=r"expected ../fe.HSX, .TSHS or .nc, got none"):
        read_siesta(tmp_path / "run.fdf")


# Random matrices, written by sisl or, in the format of SIESTA 4, by this file


@pytest.mark.parametrize("kind", ["none", "collinear", "nc", "soc"])
@pytest.mark.parametrize("ending", ["HSX", "TSHS"])
def test_matrices_of_every_spin(tmp_path, chain, kind, ending):
    h, s = random_matrices(chain, kind)
    write_with_sisl(tmp_path, chain, h, s, kind, ending)
    write_orbital_table(tmp_path, chain)
    sample = read_siesta(tmp_path, BASIS)
    assert sample.spin is h.spin
    assert sample.structure.pbc.tolist() == [True, False, False]
    np.testing.assert_allclose(sample.structure.positions, chain.positions, atol=1e-9)
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-9)
    np.testing.assert_allclose(sample.overlap.values, s.values, atol=1e-12)


def test_missing_block(tmp_path, chain):
    h, s = random_matrices(chain, "none")
    write_with_sisl(tmp_path, chain, h, s, "none", drop=(1, 0, 1, 0, 0))
    with pytest.raises(MatrixError, match=r"chain.HSX: H: .*\(i=1, j=0, R=\[1, 0, 0\]\)"):
        read_siesta(tmp_path, BASIS)


def test_values_outside_the_radii(tmp_path, chain):
    h, s = random_matrices(chain, "none")
    write_with_sisl(tmp_path, chain, h, s, "none")
    with pytest.raises(MatrixError, match=r"chain.HSX: H: a value of .* lies in block .* angstrom apart"):
        read_siesta(tmp_path, BasisSet("siesta", BASIS.shells, {6: 1.0, 8: 1.0}))


def test_gamma_only_run_of_a_small_cell_is_refused(tmp_path, chain):
    """Atoms 3.4 angstrom from their own images, and one H that adds up all cells, as SIESTA's of the Gamma point alone."""
    write_folded(tmp_path, write_with_sisl(tmp_path, chain, *random_matrices(chain, "none"), "none"))
    (tmp_path / "chain.HSX").unlink()
    write_orbital_table(tmp_path, chain)
    for basis in (BASIS, None):
        message = r"chain.TSHS: .* their sum at the Gamma point: atom 0 reaches atom 0 in cells .* `ForceAuxCell true`"
        with pytest.raises(FormatError, match=message):
            read_siesta(tmp_path, basis)


@pytest.mark.parametrize("kind", ["none", "collinear"])
def test_gamma_only_run_of_a_large_cell(tmp_path, chain, kind):
    """Each pair goes back to the image within reach, across the boundary of the cell too; vacuum is not periodic."""
    chain.cell[0, 0] = 9.6
    chain.positions[1, 0] = 8.4  # 1.3 angstrom from the image of the other atom
    h, s = random_matrices(chain, kind)
    write_with_sisl(tmp_path, chain, h, s, kind)
    write_folded(tmp_path, tmp_path / "chain.HSX")
    whole = read_siesta(tmp_path / "chain.HSX", BASIS)
    write_orbital_table(tmp_path, chain)
    for basis in (BASIS, None):
        sample = read_siesta(tmp_path / "chain.TSHS", basis)
        assert sample.structure.pbc.tolist() == [True, False, False]
        assert sample.hamiltonian.keys[2].tolist() == [0, 1, -1, 0, 0]
    np.testing.assert_allclose(whole.hamiltonian.values, h.values, atol=1e-9)
    np.testing.assert_allclose(read_siesta(tmp_path / "chain.TSHS", BASIS).hamiltonian.values, h.values, atol=1e-9)


def test_gamma_only_run_of_a_real_chain(shared_data):
    """Six hydrogen atoms in 24 angstrom: SIESTA's energies at the k-points of the run that was folded, relative to E_F."""
    folder = shared_data / "cases" / "13-gamma-only-large-cell" / "chain"
    sample = read_siesta(folder)
    assert sample.structure.pbc.tolist() == [True, False, False]
    assert (sample.fermi_level, sample.n_electrons) == (None, None)  # sisl has written zero and one
    check_energies(sample, folder, "chain", 1e-7, shift=5.89805333)


def check_energies(sample: Sample, folder: Path, label: str, tolerance: float, shift: float = 0.0) -> None:
    """Compare with `.EIG` at the k-points of `.KP`; `shift` is the energy zero of the file."""
    words = (folder / f"{label}.EIG").read_text().split()
    n_bands, n_k = int(words[1]), int(words[3])
    energies = np.array(words[4:], dtype=float).reshape(n_k, 1 + n_bands)[:, 1:] + shift
    cartesian = np.loadtxt(folder / f"{label}.KP", skiprows=1, ndmin=2)[:, 1:4] / BOHR
    k = cartesian @ sample.structure.cell.array.T / (2 * np.pi)
    np.testing.assert_allclose(eigenvalues(sample.hamiltonian, sample.overlap, k), energies, atol=tolerance, rtol=0)


def test_left_handed_cells(shared_data):
    """The k-points of `.KP` have six digits, which is what is left of the difference."""
    folder = shared_data / "cases" / "01-left-handed-cell" / "siesta-silicon"
    sample = read_siesta(folder)
    assert sample.structure.cell.handedness == -1
    check_sample(sample)
    check_energies(sample, folder, "silicon", 1e-4)
    folded = shared_data / "cases" / "01-left-handed-cell" / "siesta-gamma-left"
    with pytest.raises(FormatError, match=r"siesta.HSX: expected H\(R\) cell by cell"):
        read_siesta(folded)


def test_a_fermi_level_that_siesta_did_not_compute(shared_data):
    """HSX has infinity for it; the number of electrons is right, and the level of `.EIG` belongs to another run."""
    folder = shared_data / "cases" / "03-siesta-fermi-unknown" / "chain"
    sample = read_siesta(folder)
    assert (sample.fermi_level, sample.n_electrons) == (None, 6)
    check_energies(sample, folder, "h_chain_vibra", 1e-7)
    found = harmose.bands(sample.hamiltonian, sample.overlap, None, sample.structure, sample.n_electrons)
    assert found.fermi_level == pytest.approx(-5.89805, abs=1e-4)


def test_a_run_that_did_not_converge(shared_data):
    sample = read_siesta(shared_data / "cases" / "04-not-converged" / "siesta-chain")
    assert sample.provenance["converged"] is False


def test_files_of_sisl_have_neither_fermi_level_nor_electrons(tmp_path, chain):
    write_with_sisl(tmp_path, chain, *random_matrices(chain, "none"), "none")
    sample = read_siesta(tmp_path, BASIS)
    assert (sample.fermi_level, sample.n_electrons) == (None, None)


def test_paths_that_are_not_ascii(tmp_path, chain):
    folder = tmp_path / "Größe µ"
    folder.mkdir()
    h, s = random_matrices(chain, "none")
    for ending in ("HSX", "TSHS"):
        write_with_sisl(tmp_path, chain, h, s, "none", ending).rename(folder / f"ключ.{ending}")
    (tmp_path / "chain.XV").rename(folder / "ключ.XV")
    write_orbital_table(tmp_path, chain)
    (tmp_path / "chain.ORB_INDX").rename(folder / "ключ.ORB_INDX")
    for ending in ("HSX", "TSHS"):
        sample = read_siesta(folder / f"ключ.{ending}", BASIS)
        assert sample.name == "ключ"
        np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-9)


def test_isolated_atom(tmp_path):
    """No pairs: a crystal whose atom reaches no image is read as an atom."""
    import sisl

    atom = sisl.Atom("C", [sisl.AtomicOrbital(n=2, l=0, m=0, zeta=1, R=2.0)], tag="C")
    geometry = sisl.Geometry([[1.0, 1.0, 1.0]], atom, sisl.Lattice([20.0, 20.0, 20.0], nsc=[1, 1, 1]))
    h = sisl.Hamiltonian(geometry, orthogonal=False)
    h[0, 0] = (-5.0, 1.0)
    h.write(str(tmp_path / "atom.HSX"))
    sample = read_siesta(tmp_path)
    check_sample(sample)
    assert (len(sample.hamiltonian.keys), sample.structure.pbc.any()) == (1, False)
    assert sample.hamiltonian.values[0] == pytest.approx([-5.0])


def records(*arrays) -> bytes:
    return b"".join(
        struct.pack("<i", len(a)) + a + struct.pack("<i", len(a)) for a in (np.asarray(x).tobytes() for x in arrays)
    )


def to_version_0(path: Path) -> bytes:
    """The HSX file of a version 2 file (double precision, one spin) as SIESTA 4 wrote it."""
    data, at, parts = path.read_bytes(), 0, []
    while at < len(data):
        (n,) = struct.unpack_from("<i", data, at)
        parts.append(data[at + 4 : at + 4 + n])
        at += n + 8
    n_atoms, n_orbitals, n_spin, n_species, *nsc = np.frombuffer(parts[2], "<i4")
    n_cells = int(np.prod(nsc))
    cell, charge = np.frombuffer(parts[3], "<f8")[:9].reshape(3, 3), np.frombuffer(parts[3], "<f8")[10]
    cells = np.frombuffer(parts[4][: 12 * n_cells], "<i4").reshape(-1, 3)
    xyz = np.frombuffer(parts[4][12 * n_cells : 12 * n_cells + 24 * n_atoms], "<f8").reshape(-1, 3)
    species, last = np.frombuffer(parts[4][12 * n_cells + 24 * n_atoms :], "<i4").reshape(2, -1)
    shells = [np.frombuffer(p, "<i4").reshape(-1, 3) for p in parts[6 : 6 + n_species]]
    at = 6 + n_species + 1
    per_row, rows = np.frombuffer(parts[at], "<i4"), parts[at + 1 :]
    columns = [np.frombuffer(r, "<i4") for r in rows[:n_orbitals]]
    values = [np.frombuffer(r, "<f8").astype("<f4") for r in rows[n_orbitals:]]
    atom = np.searchsorted(last, np.arange(1, n_orbitals + 1))
    vectors = [
        (xyz[atom[(c - 1) % n_orbitals]] + cells[(c - 1) // n_orbitals] @ cell - xyz[atom[k]]).astype("<f4")
        for k, c in enumerate(columns)
    ]
    home = (np.arange(n_orbitals * n_cells) % n_orbitals + 1).astype("<i4")
    i4 = lambda *x: np.array(x, dtype="<i4")  # noqa: E731
    return records(
        i4(n_orbitals, n_orbitals * n_cells, n_spin, per_row.sum()), i4(0), home, per_row, *columns, *values,
        np.array([charge, 0.01]), *vectors, i4(n_species), np.frombuffer(parts[5], "u1"),
        *[row for table in shells for row in table], i4(n_atoms), species, i4(0),
    )  # fmt: skip


def test_files_of_siesta_4(runs, tmp_path):
    """These files have single precision and neither energy zero nor positions; .EIG and .XV have them."""
    folder = runs / "siesta-Si"
    (tmp_path / "Si.HSX").write_bytes(to_version_0(folder / "Si.HSX"))
    with pytest.raises(FormatError, match=r"Si.HSX: expected Si.XV beside it"):
        read_siesta(tmp_path)
    for ending in ("XV", "EIG", "ion.nc"):
        shutil.copy(folder / f"Si.{ending}", tmp_path)
    old, new = read_siesta(tmp_path), read_siesta(folder)
    assert old.fermi_level == pytest.approx(new.fermi_level, abs=1e-6)
    assert (old.basis, old.n_electrons) == (new.basis, 8)
    assert np.array_equal(old.hamiltonian.pairs, new.hamiltonian.pairs)
    np.testing.assert_allclose(old.hamiltonian.values, new.hamiltonian.values, atol=2e-5)
    np.testing.assert_allclose(old.overlap.values, new.overlap.values, atol=2e-7)


def test_other_files_and_folders(runs, tmp_path):
    with pytest.raises(FormatError, match=r"expected LABEL.HSX, .TSHS or .nc, got none; `SaveHS true`"):
        read_siesta(runs / "abacus-MoS2")
    with pytest.raises(FormatError, match="another kind of file"):
        read_siesta(runs / "siesta-Si" / "Si.EIG")
    with pytest.raises(FormatError, match="another kind of file"):
        read_siesta(tmp_path / "nothing")
    (tmp_path / "text.HSX").write_text("H of silicon, in words" * 10)
    with pytest.raises(FormatError, match=r"text.HSX: expected a whole SIESTA HSX"):
        read_siesta(tmp_path)
    (tmp_path / "text.HSX").write_bytes(struct.pack("<iii", 4, 7, 4) + b"\0" * 40)
    with pytest.raises(FormatError, match="got version 7"):
        read_siesta(tmp_path)
    shutil.copy(runs / "siesta-Pt2-soc" / "Pt2_xx.TSHS", tmp_path)
    with pytest.raises(FormatError, match=r"expected Pt2_xx.ORB_INDX beside it"):
        read_siesta(tmp_path / "Pt2_xx.TSHS")
    shutil.copy(runs / "siesta-Pt2-soc" / "Pt2_xx.ORB_INDX", tmp_path)
    shutil.copy(runs / "siesta-Fe" / "fe.XV", tmp_path / "Pt2_xx.XV")
    with pytest.raises(FormatError, match=r"Pt2_xx.XV: expected the 2 atoms of Pt2_xx.TSHS, got 1"):
        read_siesta(tmp_path / "Pt2_xx.TSHS")
    (tmp_path / "Pt2_xx.ORB_INDX").write_text("999999999999 5 = orbitals\n\n io\n 1 2 3\n")
    with pytest.raises(FormatError, match=r"Pt2_xx.ORB_INDX: expected a SIESTA table of orbitals"):
        read_siesta(tmp_path / "Pt2_xx.TSHS")


def test_energy_unit():
    """sisl converts H to eV with its own Rydberg."""
    from sisl.unit.siesta import unit_convert

    assert unit_convert("Ry", "eV") == pytest.approx(RYDBERG, rel=1e-12)
    assert unit_convert("Bohr", "Ang") == pytest.approx(BOHR, rel=1e-12)
