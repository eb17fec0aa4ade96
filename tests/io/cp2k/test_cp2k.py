"""CP2K: bands agree with those that CP2K prints, S with PySCF's lattice sums; damaged runs are refused in one line."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from tests.io.cp2k.cp2k_runs import bands, hexagonal_bn, needs_cp2k, replace_in, run, text

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample, check_sample
from harmose.errors import BasisError, FormatError, HarmoseError, MatrixError
from harmose.io.cp2k.cp2k import is_cp2k, read_cp2k
from harmose.io.cp2k.input import CP2KSettings
from harmose.io.files import read
from harmose.physics.eigen import eigenvalues
from harmose.so3.conventions import PYSCF
from harmose.spin import Spin

COARSE = CP2KSettings(kmesh=(2, 2, 1), cutoff=100, rel_cutoff=20)
"""Coarse grids: the accuracy of H does not matter for reading it."""


def band_error(sample: Sample, folder: Path) -> float:
    """Largest deviation of any band from CP2K's own, in meV."""
    kpoints, expected = bands(folder)
    energies = eigenvalues(sample.hamiltonian, sample.overlap, kpoints)
    energies = energies.reshape(-1, *energies.shape[-2:])[..., : expected.shape[-1]]
    assert energies.shape == expected.shape
    return float(np.abs(energies - expected).max()) * 1e3


def overlap_error(sample: Sample, name: str) -> float:
    """Largest deviation of a block of S from the same integrals by PySCF."""
    from pyscf import gto

    atoms, s, worst = sample.structure, sample.overlap, 0.0
    symbols = atoms.get_chemical_symbols()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        basis = {symbol: gto.basis.load(name, symbol) for symbol in set(symbols)}

        def cell(r):
            places = atoms.positions + r @ atoms.cell.array
            return gto.M(atom=list(zip(symbols, places.tolist())), basis=basis, spin=None, verbose=0, unit="angstrom")

        degrees = [l for z in atoms.numbers for l in sample.basis.degrees(int(z))]
        for r in np.unique(s.keys[:, 2:], axis=0):
            whole = PYSCF.to_inside(gto.intor_cross("int1e_ovlp", cell(np.zeros(3)), cell(r)), degrees)
            for i, j, *_ in s.keys[(s.keys[:, 2:] == r).all(axis=1)].tolist():
                rows, cols = (slice(*s.orbital_starts[[a, a + 1]]) for a in (i, j))
                worst = max(worst, float(np.abs(s.block(i, j, tuple(r)) - whole[rows, cols]).max()))
    return worst


def test_bands_and_overlap(chain):
    sample = read_cp2k(chain)
    check_sample(sample)
    assert band_error(sample, chain) < 0.02
    assert overlap_error(sample, "gth-dzvp-molopt-sr") < 1e-7


def test_structure_basis_and_energies(chain):
    sample = read(chain)
    np.testing.assert_allclose(sample.structure.positions, [[0.1, 0.2, 6.1], [0.75, -0.15, 6.3]])
    np.testing.assert_allclose(sample.structure.cell, [[4.1, 0, 0], [0.3, 12, 0], [0, 0, 12.5]])
    assert sample.structure.pbc.all()
    assert sample.basis.name == "DZVP-MOLOPT-SR-GTH"
    assert " ".join(map(str, sample.basis.shells[1])) == "2s 3s 2p"
    assert (sample.name, sample.spin, sample.n_electrons) == ("h2-chain", Spin.NONE, 2)
    assert sample.fermi_level == pytest.approx(-1.84139, abs=1e-5)
    assert sample.energy == pytest.approx(-31.66, abs=0.5)
    settings = sample.provenance
    assert [settings[key] for key in ("code", "cp2k", "kmesh", "cycles")] == ["cp2k", "2023.1", [3, 1, 1], 9]
    assert settings["largest_dropped_H"] == 0
    assert is_cp2k(chain)
    assert read(chain / "harmose.out").energy == sample.energy


def test_smaller_radius_drops_blocks(chain):
    whole = read_cp2k(chain)
    short = BasisSet(whole.basis.name, whole.basis.shells, {1: 3.0})
    with pytest.raises(
        MatrixError, match=r"harmose.out: .* beyond the radii of .* below 1e-06 eV, got 0\.\d+; a pair cutoff"
    ):
        read_cp2k(chain, short)
    sample = read_cp2k(chain, short, max_dropped=1.0)
    dropped = sample.provenance["largest_dropped_H"]
    kept = {tuple(key) for key in sample.hamiltonian.keys.tolist()}
    outside = [k for k in whole.hamiltonian.keys.tolist() if tuple(k) not in kept]
    assert outside
    largest = max(np.abs(whole.hamiltonian.block(k[0], k[1], tuple(k[2:]))).max() for k in outside)
    assert 1e-3 < dropped == pytest.approx(largest)
    np.testing.assert_array_equal(sample.hamiltonian.block(0, 1), whole.hamiltonian.block(0, 1))


def cut_binary(run: Path) -> None:
    file = run / "harmose-KS_SPIN_1_R_2-1_0.csr"
    file.write_bytes(file.read_bytes()[:-7])


def cut_at_a_record(run: Path) -> None:
    file = run / "harmose-KS_SPIN_1_R_2-1_0.csr"
    file.write_bytes(file.read_bytes()[: -24 * 12])


def cut_home(size: int, prefix: str = "KS"):
    """Cut the matrix of the home cell at the end of a record, where nothing in the file tells."""

    def cut(run: Path) -> None:
        file = run / f"harmose-{prefix}_SPIN_1_R_1-1_0.csr"
        file.write_bytes(file.read_bytes()[:size])

    return cut


def garbage(run: Path) -> None:
    (run / "harmose-S_SPIN_1_R_1-1_0.csr").write_bytes(b"\x7fELF no matrix\n")


def cut_text(run: Path) -> None:
    (run / "harmose-S_SPIN_1_R_1-1_0.csr").write_text("    1   1 0.1E+01\n   1  2 0.1")


def no_output(run: Path) -> None:
    (run / "harmose.out").unlink()


def two_outputs(run: Path) -> None:
    (run / "older.out").write_text((run / "harmose.out").read_text())


def no_input(run: Path) -> None:
    (run / "harmose.inp").unlink()


def without(*patterns: str):
    def remove(run: Path) -> None:
        for pattern in patterns:
            for file in run.glob(pattern):
                file.unlink()

    return remove


def changed(name: str, *changes: tuple[str, str]):
    return lambda run: replace_in(run / name, *changes)


def shortened(run: Path) -> None:
    content = (run / "harmose.out").read_text()
    (run / "harmose.out").write_text(content[: content.index("SCF run converged")])


def another_step(run: Path) -> None:
    (run / "harmose-KS_SPIN_1_R_1-1_1.csr").write_bytes(b"")


def another_image(run: Path) -> None:
    (run / "harmose-KS_SPIN_1_R_24-1_0.csr").write_bytes(b"")


def list_with_a_gap(run: Path) -> None:
    lines = (run / "harmose.out").read_text().split("\n")
    del lines[next(k for k, line in enumerate(lines) if "KS CSR write|" in line) + 4]
    (run / "harmose.out").write_text("\n".join(lines))


def list_with_a_wrong_number(run: Path) -> None:
    lines = (run / "harmose.out").read_text().split("\n")
    k = next(k for k, line in enumerate(lines) if "KS CSR write|" in line) + 4
    lines[k] = lines[k][:-1] + "7"
    (run / "harmose.out").write_text("\n".join(lines))


def in_k_space(run: Path) -> None:
    for file in run.glob("*_R_*.csr"):
        file.rename(file.with_name(file.name.replace("_R_", "_K_")))


OUT, INP = "harmose.out", "harmose.inp"
WRONG = [
    (cut_binary, FormatError, r"KS_SPIN_1_R_2-1_0.csr: expected records of 24 bytes, got \d+ bytes: the file is cut off"),
    (cut_home(0), FormatError, r"KS_SPIN_1_R_1-1_0.csr: expected the 10 diagonal elements of the home cell, got 0: the file is"),
    (cut_home(600), FormatError, r"KS_SPIN_1_R_1-1_0.csr: .* diagonal .*, got \d: the file is cut off; copy it again"),
    (cut_home(48, "S"), FormatError, r"S_SPIN_1_R_1-1_0.csr: expected the 10 diagonal elements"),
    (cut_at_a_record, MatrixError, r"H: expected block .* to be the adjoint of .* is written in .* and not in"),
    (garbage, FormatError, r"S_SPIN_1_R_1-1_0.csr: expected lines `row column value` or CP2K's binary records"),
    (cut_text, FormatError, r"S_SPIN_1_R_1-1_0.csr: expected whole lines"),
    (no_output, FormatError, r"h2-chain: expected one output of CP2K, found none$"),
    (two_outputs, FormatError, r"h2-chain: expected one output of CP2K, found harmose.out, older.out: name it"),
    (no_input, FormatError, r"harmose.inp: expected the input of harmose.out beside it"),
    (without("*-S_*.csr"), FormatError, r"expected harmose-S_SPIN_1\*.csr, found none; .* &S_CSR_WRITE with REAL_SPACE T"),
    (without("*-KS_*.csr"), FormatError, r"expected harmose-KS_SPIN_1\*.csr, found none; .* &KS_CSR_WRITE"),
    (without("*-S_*_R_3-*.csr"), FormatError, r"missing harmose-S_SPIN_1_R_3-\*.csr; the output lists 23 images"),
    (another_step, FormatError, r"expected the matrices of one step, got 1_0, 1_1"),
    (another_image, FormatError, r"unexpected harmose-KS_SPIN_1_R_24-\*.csr; the output lists 23 images"),
    (list_with_a_gap, FormatError, r"expected 23 periodic images of KS, each R with -R, got a damaged list"),
    (list_with_a_wrong_number, FormatError, r"expected 23 periodic images of KS, each R with -R, got a damaged list"),
    (in_k_space, FormatError, r"expected matrices in real space, got one of a k-point \(set REAL_SPACE T in CP2K\)"),
    (changed(OUT, ("CSR write|", "CSR wrote|")), FormatError, r"expected the list of periodic images \(PRINT_LEVEL MEDIUM\)"),
    (changed(OUT, ("ATOMIC COORDINATES IN", "")), FormatError, r"expected the atomic coordinates .*\(PRINT_LEVEL MEDIUM"),
    (changed(OUT, ("Normalised Cartesian", ""), ("1       1    2s", "")), FormatError, r"the orbitals of each atomic kind"),
    (changed(OUT, ("SCF run converged in", "SCF run NOT converged in")), FormatError, r"the SCF is not converged"),
    (changed(OUT, ("PROGRAM ENDED AT", "")), FormatError, r"CP2K's output breaks off"),
    (shortened, FormatError, r"CP2K's output breaks off"),
    (changed(OUT, ("type                                                         ENERGY", "type   GEO_OPT")), FormatError,
     r"expected a single point \(RUN_TYPE ENERGY\), got RUN_TYPE GEO_OPT"),
    (changed(INP, ("A 4.1 0 0", "A 4.2 0 0")), FormatError, r"expected the cell that harmose.out prints, got another"),
    (changed(INP, ("A 4.1 0 0", "")), FormatError, r"harmose.inp: cannot read cell .*expected the lattice vectors"),
    (changed(INP, ("A 4.1 0 0", "A four 0 0")), FormatError, r"harmose.inp: cannot read cell and coordinates"),
    (changed(INP, ("&CELL", "@INCLUDE 'cell.inc'\n&CELL")), FormatError, r"expected an input without @INCLUDE"),
    (changed(INP, ("C 0 0 12.5", "C 0 0 -12.5"), ), FormatError, r"expected the cell that harmose.out prints"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "error", "message"), WRONG)
def test_damaged_runs(chain, spoil, error, message):
    spoil(chain)
    with pytest.raises(error, match=message) as caught:
        read_cp2k(chain)
    assert "\n" not in str(caught.value)


def test_other_shells_are_refused(chain):
    own = read_cp2k(chain).basis
    with pytest.raises(BasisError, match=r"expected H with the shells of basis x \(2s 2p\), got 2s 3s 2p"):
        read_cp2k(chain, BasisSet("x", {1: own.shells[1][::2]}, {1: 5.0}))


def test_other_folders_are_not_recognised(tmp_path, water_store):
    assert not is_cp2k(tmp_path / "nowhere")
    (tmp_path / "notes.out").write_text("SIESTA 5.0\n")
    assert not is_cp2k(tmp_path)
    assert not is_cp2k(water_store)
    with pytest.raises(FormatError, match="not recognised"):
        read(tmp_path)
    with pytest.raises(FormatError, match="expected one output of CP2K, found none"):
        read(tmp_path, format="cp2k")
    with pytest.raises(FormatError, match=r"notes.out: expected an output of CP2K"):
        read_cp2k(tmp_path / "notes.out")


# Runs of CP2K --------------------------------------------------------------------------------------------------------

OUTSIDE = ((2.5, 1.44337567, 2.2), (1.25, 0.72168784 - 2 * 2.1650635, 2.3 + 9.0))
"""Positions of h-BN moved by lattice vectors."""


@needs_cp2k
def test_atoms_outside_the_cell(tmp_path):
    folder = run(tmp_path / "bn", text(hexagonal_bn(OUTSIDE), COARSE))
    sample = read_cp2k(folder)
    np.testing.assert_allclose(sample.structure.positions, OUTSIDE)
    assert band_error(sample, folder) < 0.1
    assert overlap_error(sample, "gth-dzvp-molopt-sr") < 1e-7


@needs_cp2k
def test_two_basis_sets_of_one_element(tmp_path):
    """Kinds N and N2 are both nitrogen, with DZVP and SZV."""
    atoms = Atoms("NN", [[0.1, 0.2, 6.1], [1.0, -0.2, 6.6]], cell=[[2.6, 0, 0], [0.3, 9, 0], [0, 0, 9.5]], pbc=True)
    content = text(atoms, replace(COARSE, kmesh=(3, 1, 1), eps_scf=1e-3))
    lines = content.splitlines()
    second = [k for k, line in enumerate(lines) if line.split()[:1] == ["N"]][1]
    lines[second] = lines[second].replace("N ", "N2 ", 1)
    kind = next(k for k, line in enumerate(lines) if line.strip() == "&KIND N")
    end = next(k for k in range(kind, len(lines)) if lines[k].strip() == "&END KIND")
    other = [line.replace("DZVP", "SZV") for line in lines[kind + 1 : end]]
    lines[end + 1 : end + 1] = ["&KIND N2", "ELEMENT N", *other, "&END KIND"]
    folder = run(tmp_path / "n2", "\n".join(lines) + "\n")
    sample = read_cp2k(folder)
    assert sample.structure.numbers.tolist() == [7, 7]
    assert sample.hamiltonian.numbers.tolist() == [7, 1007]
    assert [sample.basis.n_orbitals(z) for z in (7, 1007)] == [13, 4]
    assert band_error(sample, folder) < 0.1


@needs_cp2k
def test_text_and_upper_triangles(tmp_path):
    atoms, small = hexagonal_bn(), replace(COARSE, basis="SZV-MOLOPT-SR-GTH")
    binary = read_cp2k(run(tmp_path / "binary", text(atoms, small)))
    other = read_cp2k(run(tmp_path / "text", text(atoms, small, {"BINARY T": "UPPER_TRIANGULAR T"})))
    np.testing.assert_allclose(other.hamiltonian.values, binary.hamiltonian.values, atol=1e-9)
    np.testing.assert_allclose(other.overlap.values, binary.overlap.values, atol=1e-11)


@needs_cp2k
def test_order_of_f_orbitals(tmp_path):
    atoms = Atoms("AuC", [[0.1, 0.2, 0.3], [1.9, 2.0, 1.1]], cell=[[2.6, 0.3, 0], [0, 9.0, 0], [0, 0.5, 9.0]], pbc=True)
    loose = CP2KSettings(kmesh=(2, 1, 1), cutoff=100, rel_cutoff=20, eps_scf=1e-2)
    folder = run(tmp_path / "gold", text(atoms, loose))
    sample = read_cp2k(folder)
    assert sample.basis.l_max == 3
    assert overlap_error(sample, "gth-dzvp-molopt-sr") < 1e-7
    assert band_error(sample, folder) < 0.1


@needs_cp2k
def test_spin_up_and_down(tmp_path):
    atoms = Atoms("H", cell=[7, 7, 3.0], pbc=True)
    polarised = {"&DFT": "&DFT\n UKS T\n MULTIPLICITY 2", "ADDED_MOS -1\n      &DIAG": "ADDED_MOS -1 -1\n      &DIAG"}
    magnetic = {"&KIND H": "&KIND H\n MAGNETIZATION 1"}
    folder = run(
        tmp_path / "h", text(atoms, CP2KSettings(kmesh=(1, 1, 4), cutoff=150, rel_cutoff=30), polarised | magnetic)
    )
    sample = read_cp2k(folder)
    assert (sample.spin, sample.n_electrons, sample.hamiltonian.values.shape[0]) == (Spin.COLLINEAR, 1, 2)
    assert np.abs(np.subtract(*sample.hamiltonian.values)).max() > 1
    assert band_error(sample, folder) < 0.1
    for file in folder.glob("*KS_SPIN_2_*.csr"):
        file.unlink()
    with pytest.raises(FormatError, match=r"expected harmose-KS_SPIN_2\*.csr, found none"):
        read_cp2k(folder)


def rocksalt(primitive: bool) -> Atoms:
    """Every coordinate 0 or one half: on both sides of where CP2K wraps."""
    a = 4.083
    if primitive:
        cell = a / 2 * (1 - np.eye(3))
        return Atoms("LiH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=cell, pbc=True)
    places = [
        [0, 0, 0],
        [0.5, 0.5, 0],
        [0.5, 0, 0.5],
        [0, 0.5, 0.5],
        [0.5, 0.5, 0.5],
        [-0.5, 0, 0],
        [0, 1.5, 0],
        [0, 0, -0.5],
    ]
    return Atoms("Li4H4", positions=np.array(places) * a, cell=[a] * 3, pbc=True)


@needs_cp2k
@pytest.mark.parametrize("primitive", [True, False])
def test_atoms_at_one_half(tmp_path, primitive):
    small = CP2KSettings(basis="SZV-MOLOPT-SR-GTH", kmesh=(2, 2, 2), cutoff=100, rel_cutoff=20, eps_default=1e-8)
    folder = run(tmp_path / "lih", text(rocksalt(primitive), small))
    sample = read_cp2k(folder)
    assert band_error(sample, folder) < 0.1
    assert overlap_error(sample, "gth-szv-molopt-sr") < 5e-5  # integrals to 1e-4, the root of EPS_DEFAULT


@needs_cp2k
def test_gamma_only_runs(tmp_path):
    small = CP2KSettings(basis="SZV-MOLOPT-SR-GTH", cutoff=60, rel_cutoff=15, kmesh=(1, 1, 1), eps_default=1e-8)
    atoms = Atoms("H2", [[0.1, 0.2, 0.3], [0.4, 0.1, 0.9]], cell=[11.5, 11.5, 11.5], pbc=True)
    content = text(atoms, small)
    start, end = content.index("    &KPOINTS"), content.index("    &END KPOINTS") + len("    &END KPOINTS\n")
    bands_start, bands_end = content.index("    &BAND"), content.index("      &KS_CSR")
    gamma = content[:start] + content[end:bands_start] + content[bands_end:]
    alone = read_cp2k(run(tmp_path / "gamma", gamma))
    meshed = read_cp2k(run(tmp_path / "mesh", content))
    np.testing.assert_allclose(alone.hamiltonian.values, meshed.hamiltonian.values, atol=2e-5)
    np.testing.assert_allclose(alone.overlap.values, meshed.overlap.values, atol=1e-9)

    molecule = gamma.replace("PERIODIC XYZ", "PERIODIC NONE").replace(
        "&DFT", "&DFT\n &POISSON\n POISSON_SOLVER MT\n PERIODIC NONE\n &END"
    )
    free = read_cp2k(run(tmp_path / "free", molecule))
    assert not free.structure.pbc.any()
    np.testing.assert_allclose(free.overlap.values, meshed.overlap.values, atol=1e-9)

    crowded = gamma.replace("11.50000000000000", "6.00000000000000")
    with pytest.raises(
        FormatError, match=r"their sum at the Gamma point: atom 0 reaches atom 0 .*run with a &KPOINTS section"
    ):
        read_cp2k(run(tmp_path / "crowded", crowded))


@needs_cp2k
def test_low_print_level_and_abort(tmp_path):
    atoms = Atoms("H2", [[0, 0, 0], [0.74, 0, 0]], cell=[4, 8, 8], pbc=True)
    content = text(atoms, COARSE)
    with pytest.raises(HarmoseError, match="PRINT_LEVEL MEDIUM prints it"):
        read_cp2k(run(tmp_path / "low", content.replace("PRINT_LEVEL MEDIUM", "PRINT_LEVEL LOW")))
    with pytest.raises(
        HarmoseError, match="CP2K stopped: The requested basis set <NONE-SUCH> for element <H> was not found"
    ):
        read_cp2k(run(tmp_path / "abort", content.replace("BASIS_SET DZVP-MOLOPT-SR-GTH-q1", "BASIS_SET NONE-SUCH")))
