"""SIESTA: the code's own eigenvalues, integrals over its orbitals, the symmetry of its crystals, and damaged files."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.interpolate import CubicSpline
from scipy.io import netcdf_file

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample, check_sample
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.io.assembly import zeros
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
    with pytest.raises(FormatError, match=r"expected ../fe.HSX or .TSHS .*, got neither"):
        read_siesta(tmp_path / "run.fdf")


# Random matrices, written by sisl or, in the format of SIESTA 4, by this file

BASIS = BasisSet(
    "siesta", {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(2, 1), Shell(3, 2))}, {6: 1.9, 8: 2.3}
)


@pytest.fixture
def chain() -> Atoms:
    positions = [[0.1, 4.0, 4.0], [1.4, 4.3, 3.8]]
    return Atoms("CO", positions, cell=[[3.4, 0, 0], [0, 11.0, 0], [0, 0, 12.0]], pbc=[True, False, False])


def random_matrices(chain: Atoms, kind: str) -> tuple:
    """H and S: random, Hermitian, S near 1. `nc`: du = conj(ud) for each pair of orbitals."""
    rng = np.random.default_rng(8)

    def real_symmetric():
        operator = zeros(chain, BASIS)
        _, row, col = operator.indices
        values = rng.normal(size=row.shape)
        on = operator.is_onsite
        matrix = np.zeros((operator.n_orbitals,) * 2)
        matrix[row[on], col[on]] = values[on]
        values[on] = ((matrix + matrix.T) / 2)[row[on], col[on]]
        return values

    s = zeros(chain, BASIS)
    _, row, col = s.indices
    s = s.with_values(np.where(s.is_onsite, row == col, 0.02 * real_symmetric())[None] * 1.0)
    spin = {"none": Spin.NONE, "collinear": Spin.COLLINEAR}.get(kind, Spin.SPINOR)
    h = zeros(chain, BASIS, spin)
    if spin is not Spin.SPINOR:
        return h.with_values(np.stack([real_symmetric() for _ in range(spin.n_components)])), s
    up_down = real_symmetric() + 1j * real_symmetric()
    if kind == "nc":
        return h.with_values(np.stack([real_symmetric() + 0j, up_down, up_down.conj(), real_symmetric() + 0j])), s
    antisymmetric = np.where(h.is_onsite & (row == col), 0, np.where(row < col, 1, -1)) * real_symmetric()
    other = np.where(h.is_onsite, up_down.conj(), up_down + real_symmetric())
    values = np.stack([real_symmetric() + 1j * antisymmetric, up_down, other, real_symmetric() - 1j * antisymmetric])
    return h.with_values(values), s


def write_with_sisl(
    folder: Path, chain: Atoms, h, s, kind: str, ending: str = "HSX", drop: tuple | None = None
) -> Path:
    import sisl

    def atom(z: int):
        orbitals = [
            sisl.AtomicOrbital(n=x.n, l=x.l, m=m, zeta=x.zeta, R=2.0)
            for x in BASIS.shells[z]
            for m in range(-x.l, x.l + 1)
        ]
        return sisl.Atom(z, orbitals)

    geometry = sisl.Geometry(
        chain.positions, [atom(int(z)) for z in chain.numbers], sisl.Lattice(chain.cell.array, nsc=[3, 1, 1])
    )
    kinds = {"none": "unpolarized", "collinear": "polarized", "nc": "non-colinear", "soc": "spin-orbit"}
    out = sisl.Hamiltonian(geometry, spin=sisl.Spin(kinds[kind]), orthogonal=False)
    degrees = [l for z in chain.numbers.tolist() for l in BASIS.degrees(z)]
    sign = SIESTA.indices(degrees)[1]
    starts = h.orbital_starts
    keys = np.concatenate([h.keys, np.column_stack([h.keys[2:, [1, 0]], -h.keys[2:, 2:]])])
    for i, j, *cell in keys.tolist():
        if (i, j, *cell) == drop:
            continue
        block = h.block(i, j, tuple(cell)).reshape(len(h.values), h.orbital_counts[i], -1)
        overlap = s.block(i, j, tuple(cell))
        for a, b in np.ndindex(overlap.shape):
            v, row, col = block[:, a, b], starts[i] + a, starts[j] + b
            if len(v) == 4:
                uu, ud, du, dd = v
                v = [uu.real, dd.real, ud.real, ud.imag]
                v += [uu.imag, dd.imag, du.real, du.imag] if kind == "soc" else []
            out[row, col, tuple(cell)] = np.array([*v, overlap[a, b]]) * sign[row] * sign[col]
    path = folder / f"chain.{ending}"
    out.write(str(path))
    rows = [np.append(x / BOHR, [0, 0, 0]) for x in (*chain.cell.array, *chain.positions)]
    lines = [" ".join(f"{x:.12f}" for x in row) for row in rows]
    atoms = [f"{k + 1} {z} {line}" for k, (z, line) in enumerate(zip(chain.numbers, lines[3:]))]
    lines = [*lines[:3], str(len(chain)), *atoms]
    (folder / "chain.XV").write_text("\n".join(lines) + "\n")
    return path


def write_orbital_table(folder: Path, chain: Atoms) -> None:
    rows, k = [], 0
    for atom, (symbol, z) in enumerate(zip(chain.symbols, chain.numbers.tolist()), start=1):
        for o, (shell, m) in enumerate([(s, m) for s in BASIS.shells[z] for m in range(-s.l, s.l + 1)], start=1):
            k += 1
            rows.append(f"{k} {atom} {atom} {symbol} {o} {shell.n} {shell.l} {m} {shell.zeta} F sym 3.2 0 0 0 {k}")
    text = "\n".join([f" {k} {3 * k} = orbitals in unit cell and supercell. See end of file.", "", "io ia", *rows])
    (folder / "chain.ORB_INDX").write_text(text + "\n")


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


def test_gamma_only_run_of_a_crystal_is_refused(tmp_path, chain):
    """Atoms 2 angstrom from each other's images, and one H that adds up all cells, as SIESTA's of the Gamma point alone."""
    import sisl

    h = sisl.get_sile(write_with_sisl(tmp_path, chain, *random_matrices(chain, "none"), "none")).read_hamiltonian()
    one_cell = sisl.Geometry(h.xyz, h.geometry.atoms, sisl.Lattice(h.cell, nsc=[1, 1, 1]))
    folded = sisl.Hamiltonian.fromsp(one_cell, h.Hk(dtype=np.float64), S=h.Sk(dtype=np.float64))
    folded.write(str(tmp_path / "chain.HSX"))
    with pytest.raises(FormatError, match=r"their sum at the Gamma point: atom 0 reaches atom 1 in cell \[-1, 0, 0\]"):
        read_siesta(tmp_path, BASIS)


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
    with pytest.raises(FormatError, match=r"expected LABEL.HSX or .TSHS"):
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
