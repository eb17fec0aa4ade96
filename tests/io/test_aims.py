"""FHI-aims: silicon's matrices are symmetric under its space group, its bands are silicon's, and what is refused."""

import re
import shutil

import h5py
import numpy as np
import pytest

import harmose
from harmose.core.sample import check_sample
from harmose.errors import BasisError, HarmoseError, IncompleteHamiltonian
from harmose.io.aims import AIMS, read_aims
from harmose.io.aims_input import SWITCH, is_aims, missing_in_aims
from harmose.physics.bloch import bloch_sum
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin
from harmose.units import HARTREE

SILICON_SITE = {
    "third of a turn about 111": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "half a turn about x": np.diag([1.0, -1, -1]),
    "mirror": np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    "fourfold rotoinversion": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, -1]]),
}
"""Generators of the point group Td of a site, and more operations."""


@pytest.fixture(scope="module")
def silicon(shared_data):
    return read_aims(shared_data / "dft-outputs" / "aims-Si")


def test_silicon(silicon, unequal_m):
    check_sample(silicon)
    assert silicon.name == "aims-Si"
    assert [str(shell) for shell in silicon.basis.shells[14]] == [
        "1s",
        "2s",
        "3s",
        "3s'",
        "2p",
        "3p",
        "2p'",
        "3d",
        "4f",
    ]
    assert silicon.basis.radii[14] == 5.0  # cut_pot 3.5 1.5
    assert silicon.n_electrons == 28
    assert silicon.provenance["functional"] == "pbe"
    assert (silicon.fermi_level, silicon.energy) == (None, None)  # there is no aims.out
    assert unequal_m(silicon.structure, silicon.overlap) < 1e-3  # aims's grid


def test_overlap_depends_on_the_sign(silicon, unequal_m):
    without = silicon.overlap.with_values(silicon.overlap.values * signs(silicon.overlap))
    assert unequal_m(silicon.structure, without) > 0.1


def signs(operator):
    """Return the product of aims's signs of both orbitals of each stored value."""
    _, sign = AIMS.indices([l for z in operator.numbers.tolist() for l in operator.basis.degrees(z)])
    _, row, col = operator.indices
    return sign[row] * sign[col]


@pytest.mark.parametrize("operation", SILICON_SITE)
def test_site_symmetry(silicon, asymmetry, operation):
    q = SILICON_SITE[operation]
    assert asymmetry(silicon.structure, silicon.overlap, q, np.zeros(3)) < 1e-12
    assert asymmetry(silicon.structure, silicon.hamiltonian, q, np.zeros(3)) < 1e-7


def test_inversion_between_the_two_atoms(silicon, asymmetry):
    middle = silicon.structure.positions[1]
    assert asymmetry(silicon.structure, silicon.overlap, -np.eye(3), middle) < 1e-12
    assert asymmetry(silicon.structure, silicon.hamiltonian, -np.eye(3), middle) < 1e-9


def test_overlap_is_positive_definite(silicon):
    s = bloch_sum(silicon.overlap, np.random.default_rng(0).random((10, 3)))
    assert np.abs(s - s.conj().transpose(0, 2, 1)).max() < 1e-12
    assert np.linalg.eigvalsh(s).min() > 1e-4


def test_bands_of_silicon(silicon):
    """The gap of PBE, from Gamma to a point 0.85 of the way to X; threefold valence maximum; 1s at -1789 eV."""
    to_x = np.linspace(0, 1, 41)[:, None] * [0.5, 0, 0.5]
    to_l = np.linspace(0, 1, 11)[1:, None] * [0.5, 0.5, 0.5]
    bands = eigenvalues(silicon.hamiltonian, silicon.overlap, np.concatenate([to_x, to_l]))
    valence, conduction = bands[:, 13], bands[:, 14]
    assert valence.argmax() == 0
    np.testing.assert_allclose(bands[0, 11:14], valence[0], atol=1e-5)
    assert to_x[conduction.argmin(), 0] / 0.5 == pytest.approx(0.85, abs=0.03)
    assert 0.55 < conduction.min() - valence.max() < 0.65
    assert bands[0, 0] == pytest.approx(-1789.46, abs=0.01)


@pytest.fixture
def run(tmp_path, shared_data):
    """A copy of silicon's run that may be changed."""
    folder = shutil.copytree(shared_data / "dft-outputs" / "aims-Si", tmp_path / "Si", copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


def test_atoms_outside_the_cell(run, silicon, unequal_m):
    """aims maps 1.25 to 0.25 and -1 to 0, and its matrices stay as they are."""
    text = (run / "geometry.in").read_text()
    text = text.replace("0.25000 0.25000 0.25000", "1.25000 0.25000 -0.75000")
    (run / "geometry.in").write_text(
        text.replace("atom_frac 0.00000 0.00000 0.00000", "atom_frac -1.00000 0.00000 0.00000")
    )
    moved = read_aims(run)
    assert not np.array_equal(moved.hamiltonian.pairs, silicon.hamiltonian.pairs)
    assert unequal_m(moved.structure, moved.overlap) < 1e-3
    k = np.array([[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(
        eigenvalues(moved.hamiltonian, moved.overlap, k),
        eigenvalues(silicon.hamiltonian, silicon.overlap, k),
        atol=1e-9,
    )


def test_spin_channels_and_log(run, silicon):
    values = np.loadtxt(run / "rs_hamiltonian.out")
    (run / "rs_hamiltonian.out").rename(run / "rs_hamiltonian_up.out")
    overlap = np.loadtxt(run / "rs_overlap.out")
    np.savetxt(run / "rs_hamiltonian_dn.out", values + 0.5 * overlap, fmt="%24.16E")
    (run / "aims.out").write_text(
        "  | Chemical potential (Fermi level):    -9.00000000 eV\n  | Chemical potential (Fermi level):    -5.35075436 eV\n"
        "  | Total energy of the DFT / Hartree-Fock s.c.f. calculation      :         -15802.5 eV\n"
    )
    with (run / "control.in").open("a") as control:
        control.write("\ncharge 1.0\n")
    sample = read_aims(run)
    assert sample.spin is Spin.COLLINEAR
    assert np.array_equal(sample.hamiltonian.values[0], silicon.hamiltonian.values[0])
    shift = sample.hamiltonian.values[1] - sample.hamiltonian.values[0]
    np.testing.assert_allclose(shift, 0.5 * HARTREE * silicon.overlap.values[0], atol=1e-10)
    assert (sample.fermi_level, sample.energy, sample.n_electrons) == (-5.35075436, -15802.5, 27.0)
    assert sample.structure.info == {"charge": 1.0}


def test_hdf5(run, silicon):
    for name in ("rs_hamiltonian", "rs_overlap"):
        with h5py.File(run / f"{name}.h5", "w") as file:
            file["sparse_matrix"] = np.loadtxt(run / f"{name}.out")
        (run / f"{name}.out").unlink()
    assert np.array_equal(read_aims(run).hamiltonian.values, silicon.hamiltonian.values)


def test_fortran_numbers_without_exponent_letter(run, silicon):
    """Exponents of three digits lose their E."""
    lines = (run / "rs_overlap.out").read_text().splitlines()
    values = np.loadtxt(run / "rs_overlap.out")
    smallest = int(np.abs(values[:-1]).argmin())
    lines[smallest] = " -0.4000000000000000-105"
    (run / "rs_overlap.out").write_text("\n".join(lines))
    np.testing.assert_allclose(read_aims(run).overlap.values, silicon.overlap.values, atol=1e-12)


def test_radii_without_control_in(run, silicon):
    (run / "control.in").unlink()
    sample = read_aims(run)
    assert sample.basis.radii[14] == 4.3
    k = np.array([[0.1, 0.2, 0.3]])
    bands, expected = (eigenvalues(x.hamiltonian, x.overlap, k)[:, :20] for x in (sample, silicon))
    np.testing.assert_allclose(bands, expected, atol=1e-4)
    np.testing.assert_allclose(read_aims(run, silicon.basis).hamiltonian.values, silicon.hamiltonian.values, atol=0)


def gone(name):
    return lambda run: (run / name).unlink()


def replaced(name, old, new):
    def change(run):
        text = (run / name).read_text()
        changed = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        assert changed != text
        (run / name).write_text(changed)

    return change


def halved(name):
    def change(run):
        text = (run / name).read_text()
        (run / name).write_text(text[: len(text) // 2].rsplit("\n", 1)[0])

    return change


BAD = {
    "no geometry": (gone("geometry.in"), "geometry.in: no such file"),
    "no orbitals": (gone("basis-indices.out"), "basis-indices.out: no such file"),
    "no indices": (gone("rs_indices.out"), r"rs_indices.out: no such file; `output_rs_matrices plain`"),
    "no H": (gone("rs_hamiltonian.out"), "Si: expected rs_hamiltonian.out, .* got no H"),
    "no S": (gone("rs_overlap.out"), r"Si: expected rs_overlap.out \(or .h5\)"),
    "geometry of text": (lambda run: (run / "geometry.in").write_text("hello"), "geometry.in: expected a geometry of FHI-aims with atoms"),
    "three atoms": (replaced("geometry.in", r"\Z", "\natom_frac 0.5 0.5 0.5 Si\n"), "expected the orbitals of 3 atoms"),
    "half the orbitals": (halved("basis-indices.out"), "basis-indices.out: expected"),
    "stars": (replaced("basis-indices.out", r"^    1 atomic     1", "    1 atomic   ***"), r"expected rows 'fn. type at. n l m'"),
    "shell not whole": (replaced("basis-indices.out", r"^    5 atomic     1   2   1  -1\n", ""), "expected whole shells"),
    "m out of order": (replaced("basis-indices.out", r"2   1  -1", "2   1   1"), "expected whole shells"),
    "other numbers of orbitals": (replaced("rs_indices.out", r"n_basis: +50", "n_basis: 51"), "n_basis: expected 50"),
    "another file": (lambda run: (run / "rs_indices.out").write_text("1 2 3"), "expected n_hamiltonian_matrix_size"),
    "absurd sizes": (replaced("rs_indices.out", r"in_hamiltonian: +112", "in_hamiltonian: 99999999999"), "cell_index: expected"),
    "half the indices": (halved("rs_indices.out"), "rs_indices.out: .*: expected .* whole numbers, got"),
    "column out of range": (replaced("rs_indices.out", r"(column_index_hamiltonian\n) +1", r"\1 51"), "expected columns 1 to 50"),
    "indices that overlap": (replaced("rs_indices.out", r"(index_hamiltonian\(1,:,:\)\n +1 +)2", r"\g<1>1"), "each of 89403 values once"),
    "half of H": (halved("rs_hamiltonian.out"), r"rs_hamiltonian.out: expected 8940\d values .*, got 44"),
    "H of text": (lambda run: (run / "rs_hamiltonian.out").write_text("hello\n"), "expected one number per line"),
    "not a number": (replaced("rs_hamiltonian.out", r"\A\s*\S+", "NaN"), "rs_hamiltonian.out: expected finite values"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(run, case):
    spoil, words = BAD[case]
    spoil(run)
    with pytest.raises(HarmoseError, match=words) as caught:
        read_aims(run)
    assert "\n" not in str(caught.value)


def test_two_basis_sets_of_one_element(run):
    """As of two species Si_1 and Si_2: the second atom has an orbital with n = 4 in place of 3."""
    before = read_aims(run)
    spoil = replaced("basis-indices.out", r"ionic      2   3   0", "ionic      2   4   0")
    spoil(run)
    sample = read_aims(run)
    assert sample.hamiltonian.numbers.tolist() in ([14, 1014], [1014, 14])
    assert sample.structure.numbers.tolist() == [14, 14]
    assert sample.basis.radii[14] == sample.basis.radii[1014] == before.basis.radii[14]
    k = [[0.1, 0.2, 0.3]]
    np.testing.assert_allclose(
        eigenvalues(sample.hamiltonian, sample.overlap, k), eigenvalues(before.hamiltonian, before.overlap, k)
    )
    with pytest.raises(BasisError, match="expected Si with the shells of basis aims"):
        read_aims(run, before.basis)


# Made-up runs: a chain of one s orbital for each cell of 2 angstrom, E(k) = (h0 + 2 h1 cos k) / (1 + 2 s1 cos k)

INDICES = """n_hamiltonian_matrix_size: 4
n_cells_in_hamiltonian: 4
n_basis: 1
cell_index
 0 0 0
 1 0 0
 -1 0 0
 999999999 999999999 {padding}
index_hamiltonian(1,:,:)
 1
 2
 3
 {padding}
index_hamiltonian(2,:,:)
 1
 2
 3
 {padding}
column_index_hamiltonian
 1
 1
 1
 {padding}
"""


def write_chain(folder, label="H", control="", species=True, padding="0"):
    folder.mkdir(parents=True, exist_ok=True)
    vectors = "lattice_vector 2.0d0 0 0\nlattice_vector 0 20 0\nlattice_vector 0 0 20\n"
    (folder / "geometry.in").write_text(f"{vectors}atom 0 0 0 {label} # the only one\n  initial_moment 1\n")
    kinds = f"species {label}\n nucleus 1\n cut_pot 2.0 1.0 1.0\n" if species else ""
    (folder / "control.in").write_text(f"xc pbe\n{control}{kinds}")
    (folder / "basis-indices.out").write_text("\n fn. type at. n l m\n 1 atomic 1 1 0 0\n")
    (folder / "rs_indices.out").write_text(INDICES.format(padding=padding))
    (folder / "rs_hamiltonian.out").write_text("-0.5\n-0.1\n-0.1\n0.0\n")
    (folder / "rs_overlap.out").write_text("1.0\n0.1\n0.1\n0.0\n")
    return folder


CHAIN_BANDS = [-15.873308643, -13.605693123, -10.204269842]
"""In eV at k = 0, 1/4, 1/2."""


def energies_of_chain(sample):
    return eigenvalues(sample.hamiltonian, sample.overlap, [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]])[:, 0]


@pytest.mark.parametrize("label", ["H", "H1", "light", "He", "Größe"])
@pytest.mark.parametrize("padding", ["0", "**********"])
def test_species_names(tmp_path, label, padding):
    """control.in says which element a species is, whatever its name."""
    sample = read_aims(write_chain(tmp_path / "µ run", label, padding=padding))
    check_sample(sample)
    assert sample.structure.numbers.tolist() == [1]
    assert dict(sample.basis.radii) == {1: 3.0}
    assert sample.n_electrons == 1
    np.testing.assert_allclose(energies_of_chain(sample), CHAIN_BANDS, atol=1e-6)


def test_species_without_control(tmp_path):
    """The element of H1 is certain, that of a word is not; then neither charge nor electrons are known."""
    folder = write_chain(tmp_path / "run", "H1")
    (folder / "control.in").unlink()
    sample = read_aims(folder)
    assert sample.structure.numbers.tolist() == [1]
    assert sample.n_electrons is None
    (write_chain(folder, "light") / "control.in").unlink()
    with pytest.raises(HarmoseError, match=r"geometry.in: expected control.in beside it with `species light`"):
        read_aims(folder)


def test_spin_orbit_is_not_in_the_matrices(tmp_path):
    with pytest.warns(IncompleteHamiltonian, match="run: spin-orbit coupling is not in the matrices"):
        sample = read_aims(write_chain(tmp_path / "run", control="include_spin_orbit\n"))
    assert sample.provenance["spin_orbit"].startswith("not in the matrices")
    assert "spin_orbit" not in read_aims(write_chain(tmp_path / "run")).provenance


CONVERGED = "          Self-consistency cycle converged.\n"
FAILED = " * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE\n"


@pytest.mark.parametrize(("text", "converged"), [(CONVERGED, True), (FAILED, False), ("", None)])
@pytest.mark.parametrize("name", ["aims.out", "slurm-4.log"])
def test_convergence(tmp_path, text, converged, name):
    folder = write_chain(tmp_path / "run")
    text = f"  Invoking FHI-aims ...\n{text} | Chemical potential (Fermi level):   -12.50000000 eV\n"
    (folder / name).write_text(f"{text} | The structure contains 1 atoms,  and a total of       0.500 electrons.\n")
    sample = read_aims(folder)
    assert sample.provenance.get("converged") is converged
    assert (sample.fermi_level, sample.n_electrons) == (-12.5, 0.5)
    assert sample.structure.info["charge"] == 0.5


def test_several_outputs(tmp_path):
    """Which of them belongs to the matrices is not known, so nothing is taken from them; they are named."""
    folder = write_chain(tmp_path / "run")
    for name in ("a.out", "b.out"):
        (folder / name).write_text("Invoking FHI-aims\n" + CONVERGED)
    sample = read_aims(folder)
    assert sample.provenance["outputs_left_out"] == ["a.out", "b.out"]
    assert "converged" not in sample.provenance


def test_a_relaxation_is_refused(tmp_path):
    folder = write_chain(tmp_path / "run")
    (folder / "aims.out").write_text("Invoking FHI-aims\n  Updated atomic structure:\n" * 2)
    with pytest.raises(HarmoseError, match=r"aims.out: expected a run of one structure.* moved the atoms 2 times"):
        read_aims(folder)


def test_water_without_a_cell(shared_data):
    """Two molecules far from each other; the energies are FHI-aims' own, with its Hartree of CODATA 2002."""
    folder = shared_data / "cases" / "02-aims-molecule" / "water"
    sample = harmose.read(folder)
    check_sample(sample)
    assert not sample.structure.pbc.any()
    energies = eigenvalues(sample.hamiltonian, sample.overlap)[0] * 27.2113845 / HARTREE
    np.testing.assert_allclose(energies, np.loadtxt(folder / "eigenvalues.out"), atol=6e-6)


def test_a_folder_that_is_nearly_a_run(tmp_path):
    folder = write_chain(tmp_path / "run")
    assert is_aims(folder)
    assert missing_in_aims(folder) is None
    assert missing_in_aims(tmp_path) is None
    (folder / "rs_indices.out").unlink()
    assert missing_in_aims(folder) == f"{folder}: expected rs_indices.out of the FHI-aims run, got none; {SWITCH}"
    with pytest.raises(HarmoseError, match=r"run: expected rs_indices.out .*`output_rs_matrices plain`"):
        harmose.read(folder)
