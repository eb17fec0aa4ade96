"""ABACUS: the code's own eigenvalues, S as two-centre integrals, every spin and both headers on known matrices, bad files."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.data import chemical_symbols

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import pair_vectors
from harmose.core.sample import check_sample
from harmose.errors import BasisError, FormatError, MatrixError
from harmose.io.abacus.abacus import ABACUS, read_abacus
from harmose.io.abacus.csr import read_cell_matrices
from harmose.io.assembly import zeros
from harmose.io.disassembly import all_elements
from harmose.physics.eigen import eigenvalues
from harmose.so3.wigner import edge_wigner
from harmose.spin import Spin
from harmose.units import BOHR, RYDBERG


@pytest.fixture(scope="module")
def mos2(shared_data) -> Path:
    return shared_data / "dft-outputs" / "abacus-MoS2"


def test_eigenvalues_are_those_of_abacus(mos2):
    sample = read_abacus(mos2)
    check_sample(sample)
    parts = (mos2 / "OUT.ABACUS" / "istate.info").read_text().split("BAND")[1:]
    energies = np.array([[float(row.split()[1]) for row in part.splitlines()[1:] if row.strip()] for part in parts])
    kpoints = np.loadtxt(mos2 / "OUT.ABACUS" / "kpoints", skiprows=3, max_rows=3)[:, 1:4]
    ours = eigenvalues(sample.hamiltonian, sample.overlap, kpoints)[:, : energies.shape[1]]
    # ABACUS turns Ry into eV with 13.605698066
    np.testing.assert_allclose(ours, energies * RYDBERG / 13.605698066, atol=1e-6, rtol=0)
    np.testing.assert_allclose(ours, energies, atol=5e-5, rtol=0)


def test_what_the_log_says(mos2):
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


# Matrices that are known, in both formats

BASIS = BasisSet(
    "abacus", {6: (Shell(1, 0), Shell(2, 1)), 8: (Shell(1, 0), Shell(2, 1), Shell(3, 2))}, {6: 1.9, 8: 2.3}
)


@pytest.fixture
def crystal() -> Atoms:
    positions = [[0.1, 0.2, 0.3], [1.4, 1.8, 0.4], [0.4, 0.9, 2.0]]
    return Atoms("CCO", positions, cell=[[3.4, 0, 0], [0.3, 3.6, 0], [0, 0, 12.0]], pbc=[True, True, False])


def known(crystal: Atoms, spin: Spin) -> tuple[BlockMatrix, BlockMatrix]:
    rng = np.random.default_rng(11)
    h, s = zeros(crystal, BASIS, spin), zeros(crystal, BASIS)

    def hermitian(operator: BlockMatrix, scale: float) -> BlockMatrix:
        values = scale * rng.normal(size=operator.values.shape)
        if operator.spin is Spin.SPINOR:
            values = values + 1j * scale * rng.normal(size=values.shape)
        for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
            block = values[:, start:end].reshape(-1, n, n)
            values[:, start:end] = ((block + operator.spin.adjoint(block)) / 2).reshape(len(values), -1)
        return operator.with_values(values)

    s = hermitian(s, 0.02)
    _, row, col = s.indices
    return hermitian(h, 1.0), s.with_values(np.where(s.is_onsite, row == col, s.values) * 1.0)


def csr_text(
    crystal: Atoms, operator: BlockMatrix, component: int | None, letter: str, new: bool, step: int = 0
) -> str:
    """One component, or (None) all four of a spinor as complex matrices with spin innermost, H in Ry."""
    rows, cols, cells, values = all_elements(operator)
    degrees = [l for z in crystal.numbers.tolist() for l in BASIS.degrees(z)]
    index, sign = ABACUS.indices(degrees)  # ours k is the code's index[k], times the sign
    values = values * sign[rows] * sign[cols] / (RYDBERG if letter == "H" else 1)
    rows, cols, size = index[rows], index[cols], operator.n_orbitals
    if component is None:
        spinor = operator.spin is Spin.SPINOR
        parts = values if spinor else [values[0], 0 * values[0], 0 * values[0], values[0]]
        rows, cols = (np.concatenate([2 * x + k for k in up]) for x, up in ((rows, (0, 0, 1, 1)), (cols, (0, 1, 0, 1))))
        cells, values, size = np.concatenate([cells] * 4), np.concatenate(parts), 2 * size
    else:
        values = values[component]
    places = np.unique(np.concatenate([cells, [[2, 2, 0]]]), axis=0)  # and an empty one
    if new:
        head = [f" --- Ionic Step {step + 1} ---", f" # print {letter} matrix in real space {letter}(R)", " 1 # number of spin directions",
                " 1 # spin index", f" {size} # number of localized basis", f" {len(places)} # number of Bravais lattice vector R",
                "", " user_defined_lattice", " 1.8897", " 3.4 0 0", " 0.3 3.6 0", " 0 0 12", " C O", " 2 1", " Direct", " 0 0 0", "",
                " #---#", " #     CSR Format     #", " # The first line (Rx, Ry, Rz), # of non-zero elements.", " #---#", ""]  # fmt: skip
    else:
        head = [
            f"STEP: {step}",
            f"Matrix Dimension of {letter}(R): {size}",
            f"Matrix number of {letter}(R): {len(places)}",
        ]
    lines = head
    for cell in places.tolist():
        here = np.flatnonzero((cells == cell).all(axis=1))
        here = here[np.lexsort([cols[here], rows[here]])]
        lines.append(" ".join(map(str, [*cell, len(here)])))
        if not len(here) and not new:
            continue
        texts = [f"({v.real:.12e},{v.imag:.12e})" if component is None else f"{v:.12e}" for v in values[here]]
        starts = np.searchsorted(rows[here], np.arange(size + 1))
        tables = (" ".join(texts), " ".join(map(str, cols[here])), " ".join(map(str, starts)))
        for name, table in zip(("values", "column indices", "row pointers"), tables):
            lines += ([f" # CSR {name}"] if new else []) + [table]
    return "\n".join(lines) + "\n"


def log_text(crystal: Atoms, n_spin: int, direct: bool = False) -> str:
    lines = [" ABACUS v3.9.0", "                  lattice constant (Bohr) = 1.88972612546", ""]
    for k, symbol in enumerate(dict.fromkeys(crystal.symbols), start=1):
        z = chemical_symbols.index(symbol)
        lines += [f" READING ATOM TYPE {k}", f"          atom label = {symbol}1"]
        lines += [
            f"          L={l}, number of zeta = {BASIS.degrees(z).count(l)}" for l in sorted(set(BASIS.degrees(z)))
        ]
        lines += [f"          number of atom for this type = {int((crystal.numbers == z).sum())}", ""]
    coordinates = crystal.get_scaled_positions(wrap=False) if direct else crystal.positions
    lines += [" DIRECT COORDINATES" if direct else "CARTESIAN COORDINATES ( UNIT = 1.889726125457828 Bohr )."]
    lines += ["    atom   x   y   z   mag"]
    lines += [
        f"tau_{atom.symbol}1{k} {' '.join(f'{x:.10f}' for x in row)} 0.0"
        for k, (atom, row) in enumerate(zip(crystal, coordinates))
    ]
    lines += ["", " Lattice vectors: (Cartesian coordinate: in unit of a_0)"]
    lines += ["     " + "   ".join(f"{x:+.6g}" for x in row) for row in crystal.cell.array]
    lines += [
        f"       nspin = {n_spin}",
        " AUTOSET number of electrons:  = 14",
        " E_Fermi   0.1  0.5",
        " EFERMI = 0.5 eV",
        " !FINAL_ETOT_IS -17.5 eV",
    ]
    lines += ["                  longest orb rcut (Bohr) = 3", "   longest nonlocal projector rcut (Bohr) = 1"]
    return "\n".join(lines) + "\n"


def write_run(folder: Path, crystal: Atoms, h: BlockMatrix, s: BlockMatrix, new: bool, direct: bool = False) -> Path:
    out = folder / "OUT.known"
    out.mkdir(exist_ok=True)
    spinor = h.spin is Spin.SPINOR
    names = ["hrs1_nao.csr", "hrs2_nao.csr"] if new else ["data-HR-sparse_SPIN0.csr", "data-HR-sparse_SPIN1.csr"]
    for component, name in zip([None] if spinor else range(h.spin.n_components), names):
        (out / name).write_text(csr_text(crystal, h, component, "H", new))
    overlap = "srs1_nao.csr" if new else "data-SR-sparse_SPIN0.csr"
    (out / overlap).write_text(csr_text(crystal, s, None if spinor else 0, "S", new))
    (out / "running_scf.log").write_text(log_text(crystal, h.spin.n_components, direct))
    return out


@pytest.mark.parametrize("spin", list(Spin))
@pytest.mark.parametrize("new", [False, True])
def test_known_matrices_of_every_spin(tmp_path, crystal, spin, new):
    h, s = known(crystal, spin)
    write_run(tmp_path, crystal, h, s, new, direct=new)
    sample = read_abacus(tmp_path, BASIS)
    assert (sample.name, sample.spin, sample.n_electrons, sample.fermi_level) == ("known", spin, 14, 0.5)
    assert sample.energy == -17.5
    np.testing.assert_allclose(sample.structure.positions, crystal.positions, atol=1e-6)
    np.testing.assert_allclose(sample.structure.cell.array, crystal.cell.array, atol=1e-6)
    assert sample.structure.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(sample.hamiltonian.values, h.values, atol=1e-10)
    np.testing.assert_allclose(sample.overlap.values, s.values, atol=1e-11)
    # measured: 3 + 1 Bohr are not enough for the blocks of this basis
    own = read_abacus(tmp_path).basis
    assert all(own.radii[z] >= 4 * BOHR for z in (6, 8))
    assert own.shells == BASIS.shells


def test_complex_values_in_other_brackets_and_over_several_lines(tmp_path, crystal):
    h, s = known(crystal, Spin.SPINOR)
    out = write_run(tmp_path, crystal, h, s, new=True)
    text = (out / "hrs1_nao.csr").read_text()
    (out / "hrs1_nao.csr").write_text(re.sub(r"\((\S+?),(\S+?)\) ?", r"[(\1, \2)] \n", text))
    np.testing.assert_allclose(read_abacus(tmp_path, BASIS).hamiltonian.values, h.values, atol=1e-10)


def test_gamma_only_is_refused_where_cells_were_added_up(tmp_path, crystal):
    """One matrix for R = 0: a molecule where no atom reaches an image, else not what H(R) is."""
    h, s = known(crystal, Spin.NONE)
    out = write_run(tmp_path, crystal, h, s, new=False)
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
    large = Atoms(crystal.symbols, crystal.positions, cell=[30, 30, 30], pbc=True)
    (out / "running_scf.log").write_text(log_text(large, 1))
    molecule = read_abacus(tmp_path, BASIS)
    assert not molecule.structure.pbc.any()
    assert not molecule.hamiltonian.pairs[:, 2:].any()


def test_cell_with_the_digits_of_the_cif(tmp_path, crystal):
    cell = np.array([[0.1234567891, 1.9876543219, 1.7], [1.9, 0.0, 1.8], [1.75, 1.85, 0.0]]) * 3
    dense = Atoms(crystal.symbols, crystal.positions, cell=cell[[0, 2, 1]], pbc=True)
    out = tmp_path / "OUT.known"
    out.mkdir()
    (out / "running_scf.log").write_text(log_text(dense, 1))
    from harmose.io.abacus.log import read_log

    assert np.abs(read_log(out).structure.cell.array - dense.cell.array).max() > 5e-7
    names = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"]
    cif = "".join(f"_cell_{name}  {x:.8f}\n" for name, x in zip(names, dense.cell.cellpar()))
    (out / "STRU.cif").write_text(cif)
    refined = read_log(out).structure.cell
    np.testing.assert_allclose(refined.cellpar(), dense.cell.cellpar(), atol=1e-8)
    np.testing.assert_allclose(refined.array, dense.cell.array, atol=1e-5)
    # the file of another run is not believed
    (out / "STRU.cif").write_text(cif.replace("length_a  ", "length_a  1"))
    np.testing.assert_allclose(read_log(out).structure.cell.array, dense.cell.array, atol=1e-4)


def test_radii_from_the_names_of_orbital_files(tmp_path, crystal):
    """With the projectors' 1 Bohr: 8 and 10.5 Bohr, rounded up to 0.1 angstrom; without the names, at least 3 + 1 Bohr."""
    write_run(tmp_path, crystal, *known(crystal, Spin.NONE), new=True)
    assert all(2.2 <= radius < 4 for radius in read_abacus(tmp_path).basis.radii.values())
    names = "C_gga_7au_60Ry_1s1p.orb\nO_gga_9.5au_60Ry_1s1p1d.orb"
    (tmp_path / "STRU").write_text(
        f"ATOMIC_SPECIES\nC1 12 C.upf\n\nNUMERICAL_ORBITAL # files\n{names}\n\nLATTICE_CONSTANT\n1\n"
    )
    assert dict(read_abacus(tmp_path).basis.radii) == {6: 4.3, 8: 5.6}


def test_missing_and_wrong_images(tmp_path, crystal):
    h, s = known(crystal, Spin.NONE)
    out = write_run(tmp_path, crystal, h, s, new=False)
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


def test_h_without_s_and_spins_that_do_not_fit(tmp_path, crystal):
    h, s = known(crystal, Spin.COLLINEAR)
    out = write_run(tmp_path, crystal, h, s, new=True)
    (out / "running_scf.log").write_text(log_text(crystal, 1))
    with pytest.raises(
        FormatError, match=r"expected the matrices of nspin = 1, as the log says, got those of nspin = 2"
    ):
        read_abacus(tmp_path)
    (out / "running_scf.log").write_text(log_text(crystal, 2))
    (out / "hrs2_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"nspin = 2, as the log says, got those of nspin = 1 \(hrs1_nao.csr\)"):
        read_abacus(tmp_path)
    (out / "running_scf.log").write_text(log_text(crystal, 1))
    (out / "srs1_nao.csr").rename(out / "sr_nao.csr")
    assert read_abacus(tmp_path, BASIS).spin is Spin.NONE
    (out / "sr_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"expected the overlap beside H .*, got none"):
        read_abacus(tmp_path)
    shutil.copy(out / "hrs1_nao.csr", out / "hrs1_nao.csr.bak")
    (out / "hrs1_nao.csr").unlink()
    with pytest.raises(FormatError, match=r"expected an OUT.\* folder of ABACUS with hrs1_nao.csr or data-HR"):
        read_abacus(tmp_path)


def test_damaged_matrices(mos2, tmp_path, crystal):
    path = tmp_path / "data-HR-sparse_SPIN0.csr"
    whole = csr_text(crystal, known(crystal, Spin.NONE)[0], 0, "H", new=False)
    lines = whole.splitlines()
    rng = np.random.default_rng(0)
    for size in [0, 5, 40, *rng.integers(60, len(whole) - 40, 20).tolist()]:
        path.write_text(whole[:size])
        with pytest.raises(FormatError, match=r"SPIN0.csr: expected"):
            read_cell_matrices(path)

    def refused(text: str, match: str) -> None:
        path.write_text(text)
        with pytest.raises(FormatError, match=match):
            read_cell_matrices(path)

    def with_line(k: int, line: str) -> str:
        return "\n".join([*lines[:k], line, *lines[k + 1 :]]) + "\n"

    refused(with_line(1, "Matrix Dimension of H(R): 100000000000"), "got 100000000000 orbitals")
    refused(with_line(1, "Matrix Dimension of H(R): " + "9" * 5000), "expected a number of orbitals and cells")
    refused(with_line(1, "Matrix Dimension of H(R): 0"), "got 0 orbitals")
    refused(with_line(2, "Matrix number of H(R): 99999999999"), "got 17 orbitals and 99999999999 cells")
    refused(with_line(3, "0 0 0 99999999999"), "99999999999 elements for cell")
    refused(with_line(3, "0 0 9999999 17"), "elements for cell")
    refused(with_line(4, lines[4].replace("e", "x", 1)), "that are no numbers")
    refused(with_line(4, lines[4] + " 1.0"), "numbers where .* values of cell")
    refused(with_line(5, lines[5].replace(lines[5].split()[0], "17", 1)), "that do not fit")
    refused(with_line(6, "1" + lines[6][1:]), "that do not fit")
    refused(whole + whole.replace("STEP: 0", "STEP: 1"), "got several steps of a trajectory")
    refused(whole + "1 2 3\n", "'1 2 3' after the last matrix")
    refused("\0" * 1000, "without their header")
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(FormatError, match="without their header"):
        read_cell_matrices(path)


def test_damaged_log(mos2, tmp_path):
    out = tmp_path / "OUT.MoS2"
    out.mkdir()
    for name in ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"):
        shutil.copy(mos2 / "OUT.ABACUS" / name, out)
    with pytest.raises(
        FormatError, match=r"running_scf.log: expected the log of a single-point run of ABACUS, got none"
    ):
        read_abacus(tmp_path)
    log = (mos2 / "OUT.ABACUS" / "running_scf.log").read_text()
    (out / "running_relax.log").write_text(log)
    with pytest.raises(FormatError, match=r"single-point run of ABACUS, got running_relax.log"):
        read_abacus(tmp_path)

    def refused(text: str, match: str, error: type = FormatError) -> None:
        (out / "running_scf.log").write_text(text)
        with pytest.raises(error, match=match):
            read_abacus(tmp_path)

    refused("", "another file")
    refused(log.replace("number of atom for this type = 2", "number of atom for this type = 999999999"), "got a log of")
    refused(
        log.replace("number of atom for this type = 2", "number of atom for this type = 3"),
        "rows of three numbers|expected",
    )
    refused(re.sub("lattice vectors", "Vectors", log, flags=re.IGNORECASE), "without")
    refused(log.replace("0.5773502700", "0.577x502700"), "rows of three numbers below 'CARTESIAN")
    refused(log.replace("L=3, number of zeta = 1", "L=9, number of zeta = 1"), "expected shells up to l = 6")
    refused(
        log.replace("L=3, number of zeta = 1", "L=3, number of zeta = 2"), "expected matrices of 60 rows .*, got 53"
    )
    refused(log.replace("atom label = Mo", "atom label = 42"), "labels of atoms that begin with an element")
    refused(log.replace("atom label = S", "atom label = Mo"), "same orbitals on all atoms of an element", BasisError)
    (out / "running_scf.log").write_text(log)
    other = BasisSet("abacus", {42: (Shell(1, 0),), 16: (Shell(1, 0),)}, {42: 5.8, 16: 5.8})
    with pytest.raises(BasisError, match="with the shells of basis abacus"):
        read_abacus(tmp_path, other)


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
