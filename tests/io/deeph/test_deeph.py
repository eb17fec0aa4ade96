"""DeepH's format of today: real MoTe2 and molecules (OpenMX), round trips of every spin, and what is refused."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.linalg
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample, check_sample
from harmose.errors import BasisError, FormatError, HarmoseError, MatrixError, StructureError
from harmose.io.assembly import zeros
from harmose.io.deeph.deeph import read_deeph, write_deeph
from harmose.io.files import read, write
from harmose.physics.eigen import eigenvalues
from harmose.spin import Spin

POINT_GROUP = {
    "third of a turn about z": (np.array([[-0.5, -np.sqrt(0.75), 0], [np.sqrt(0.75), -0.5, 0], [0, 0, 1]]), 0.02),
    "mirror in the layer": (np.diag([1.0, 1.0, -1.0]), 1e-6),
    "half a turn about y": (np.diag([-1.0, 1.0, -1.0]), 1e-5),
}
"""Generators of D3h, and how far H (elements up to 65 eV) is from it: OpenMX's grid does not have the axis of order 3."""


@pytest.fixture(scope="module")
def mote2(shared_data):
    return read_deeph(shared_data / "dft-outputs" / "deeph-MoTe2")


def molecules(shared_data):
    return sorted((shared_data / "dft-outputs" / "deeph-molecules").iterdir())


def test_crystal(mote2, unequal_m):
    assert mote2.structure.get_chemical_symbols() == ["Te", "Te", "Mo"]
    assert mote2.structure.pbc.all()
    assert mote2.hamiltonian.n_orbitals == 57
    assert mote2.basis.degrees(42) == (0, 0, 0, 1, 1, 2, 2)
    assert mote2.fermi_level == pytest.approx(-4.1934752874697425, abs=1e-12)
    check_sample(mote2)
    assert unequal_m(mote2.structure, mote2.overlap) < 1e-11


@pytest.mark.parametrize("operation", POINT_GROUP)
def test_point_group(mote2, asymmetry, operation):
    q, tolerance = POINT_GROUP[operation]
    mo = mote2.structure.positions[2]
    assert asymmetry(mote2.structure, mote2.overlap, q, mo - q @ mo) < 1e-12
    assert asymmetry(mote2.structure, mote2.hamiltonian, q, mo - q @ mo) < tolerance


def test_crystal_bands(mote2):
    """14 + 2 x 16 valence electrons fill 23 bands; the monolayer's gap is direct, at K, 1.0 to 1.1 eV in PBE."""
    k = np.array([[1 / 3, 1 / 3, 0], [2 / 3, 1 / 3, 0], [0, 0, 0], [0.5, 0, 0]])
    bands = eigenvalues(mote2.hamiltonian, mote2.overlap, k)
    assert np.array_equal((bands < mote2.fermi_level).sum(axis=1), [23, 23, 23, 23])
    gap = bands[:, 23] - bands[:, 22]
    assert gap.argmin() == 0
    assert 1.0 < gap[0] < 1.1
    assert bands[0, 22] == bands[:, 22].max()
    assert bands[0, 23] == bands[:, 23].min()


def test_molecules(shared_data, unequal_m):
    for folder in molecules(shared_data):
        sample = read_deeph(folder)
        check_sample(sample)
        assert sample.name == folder.name
        assert not sample.structure.pbc.any()
        assert sample.structure.cell.rank == 3
        assert not sample.hamiltonian.pairs[:, 2:].any()
        assert unequal_m(sample.structure, sample.overlap) < 1e-11
        assert sample.basis.degrees(1) == (0, 0, 1)
    assert {read_deeph(f).structure.get_chemical_formula() for f in molecules(shared_data)} == {"C6H6", "C2H6O", "H2O"}


def test_electrons_and_fermi_level(shared_data):
    ethanol = read_deeph(shared_data / "dft-outputs" / "deeph-molecules" / "25000")
    assert ethanol.n_electrons == 20
    levels = eigenvalues(ethanol.hamiltonian, ethanol.overlap)[0]
    assert levels[9] < ethanol.fermi_level < levels[10]
    assert levels[10] - levels[9] > 3


@pytest.mark.parametrize("spin", list(Spin))
def test_round_trip(tmp_path, random_crystal, spin):
    sample = random_crystal(spin)
    write_deeph(tmp_path / "random", sample)
    again = read_deeph(tmp_path / "random")
    assert again.spin is spin
    assert again.basis == sample.basis
    assert np.array_equal(again.hamiltonian.pairs, sample.hamiltonian.pairs)
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert np.array_equal(again.overlap.values, sample.overlap.values)
    assert np.array_equal(again.structure.positions, sample.structure.positions)
    assert np.array_equal(again.structure.cell.array, sample.structure.cell.array)
    assert (again.fermi_level, again.n_electrons) == (sample.fermi_level, sample.n_electrons)
    assert [f.name for f in tmp_path.iterdir()] == ["random"]


def uncoupled(sample):
    """Spinors as those of a calculation without spin-orbit coupling: real, and up and down apart."""
    values = sample.hamiltonian.values.real.astype(complex)
    values[1:3] = 0
    return replace(sample, hamiltonian=sample.hamiltonian.with_values(values))


@pytest.mark.parametrize("format", ["deeph", "deeph-legacy"])
def test_layers_and_electrons(tmp_path, format):
    """DeepH's formats know crystals only; keys of ours say in which directions, and how many electrons."""
    layer = Atoms("H", [[0.1, 0.2, 0.3]], cell=[3, 3, 10], pbc=[True, True, False])
    one = zeros(layer, BasisSet("one", {1: (Shell(1, 0),)}, {1: 4.0}))
    one = one.with_values(np.full_like(one.values, 0.25) + one.is_onsite)
    write(tmp_path / "x", Sample("x", layer, one.basis, one, overlap=one, n_electrons=1.0), format)
    again = read(tmp_path / "x")
    assert again.structure.pbc.tolist() == [True, True, False]
    assert again.n_electrons == 1
    info = json.loads((tmp_path / "x" / "info.json").read_text())
    (tmp_path / "x" / "info.json").write_text(json.dumps({**info, "harmose_pbc": [True, 1, False]}))
    with pytest.raises(FormatError, match="harmose_pbc: expected three times true or false"):
        read(tmp_path / "x")


@pytest.mark.parametrize("format", ["deeph", "deeph-legacy", "npz", "store"])
def test_spinors_stay_spinors(tmp_path, random_crystal, format):
    sample = uncoupled(random_crystal(Spin.SPINOR))
    path = tmp_path / ("x.npz" if format == "npz" else "x")
    write(path, sample, format)
    again = read(path, basis=sample.basis if format == "deeph-legacy" else None)
    assert again.spin is Spin.SPINOR
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)


@pytest.mark.parametrize("format", ["deeph", "deeph-legacy"])
@pytest.mark.parametrize(("written", "own", "found"), [(0.0, True, 0.0), (0.0, False, None), (-2.5, False, -2.5)])
def test_fermi_level_of_zero_is_a_default(tmp_path, random_crystal, format, written, own, found):
    """Converters write 0 where they do not know it; harmose writes null, so that its own 0 counts."""
    sample = replace(random_crystal(), fermi_level=written)
    write(tmp_path / "x", sample, format)
    if not own:
        change_info(harmose_basis=..., harmose_spin=...)(tmp_path / "x")
    assert read(tmp_path / "x").fermi_level == found


def test_prediction_of_deeph(tmp_path, random_crystal):
    """Both directions of a pair are predicted; their mean is read, as a prediction. H of DFT is preferred."""
    sample = random_crystal()
    write_deeph(tmp_path / "x", sample)
    assert not read(tmp_path / "x").is_prediction
    (tmp_path / "x" / "hamiltonian.h5").rename(tmp_path / "x" / "hamiltonian_pred.h5")
    with h5py.File(tmp_path / "x" / "hamiltonian_pred.h5", "r+") as file:
        k = int(np.flatnonzero((file["atom_pairs"][()] == [0, 0, 0, 0, 1]).all(axis=1))[0])
        file["entries"][file["chunk_boundaries"][k]] += 0.02
    again = read(tmp_path / "x")
    assert again.is_prediction
    change = again.hamiltonian.block(0, 1) - sample.hamiltonian.block(0, 1)
    assert change[0, 0] == pytest.approx(0.01)
    assert np.count_nonzero(np.abs(change) > 1e-12) == 1


def test_real_prediction_of_water(shared_data):
    """H of DeepH is that of DFT for the same structure plus 7.6286 S, another energy zero, to 0.8 meV."""
    sample = read(shared_data / "cases" / "07-deeph-hamiltonian-pred" / "pred")
    dft = read(shared_data / "cases" / "passing" / "12-deeph-water-benchmark" / "1009", basis=sample.basis)
    assert (sample.hamiltonian.n_orbitals, sample.is_prediction, sample.fermi_level) == (23, True, None)
    assert np.array_equal(sample.overlap.values, dft.overlap.values)
    np.testing.assert_allclose(
        sample.hamiltonian.values, dft.hamiltonian.values + 7.62865 * dft.overlap.values, atol=8e-4
    )


def test_isolated_atom(shared_data):
    sample = read(shared_data / "cases" / "05-isolated-atom" / "Bi")
    check_sample(sample)
    assert (len(sample.structure), len(sample.hamiltonian.pairs), sample.structure.pbc.any()) == (1, 0, False)
    assert sample.fermi_level == pytest.approx(-4.33106267861682)


@pytest.mark.parametrize("spin", list(Spin))
def test_layout_of_written_files(tmp_path, random_crystal, spin):
    """H(k) and S(k) added up block by block as DeepH documents them: [[uu, ud], [du, dd]] with all up orbitals first."""
    sample, k = random_crystal(spin), np.array([0.13, -0.4, 0.27])
    write_deeph(tmp_path / "x", sample)
    counts, starts = sample.hamiltonian.orbital_counts, sample.hamiltonian.orbital_starts
    n, spins = sample.hamiltonian.n_orbitals, 1 if spin is Spin.NONE else 2
    h_k, s_k = np.zeros((2, spins * n, spins * n), dtype=complex)
    for matrix, name, components in ((h_k, "hamiltonian.h5", spins), (s_k, "overlap.h5", 1)):
        with h5py.File(tmp_path / "x" / name) as file:
            pairs, bounds, entries = (file[key][()] for key in ("atom_pairs", "chunk_boundaries", "entries"))
            assert np.array_equal(file["chunk_shapes"][()], components * counts[pairs[:, 3:]])
        for (*cell, i, j), a, b in zip(pairs.tolist(), bounds, bounds[1:]):
            block = np.exp(2j * np.pi * np.dot(k, cell)) * entries[a:b].reshape(components * counts[[i, j]])
            for row in range(spins):
                for col in range(spins):
                    part = block if components == 1 else np.split(np.split(block, 2)[row], 2, axis=1)[col]
                    at = (
                        slice(row * n + starts[i], row * n + starts[i + 1]),
                        slice(col * n + starts[j], col * n + starts[j + 1]),
                    )
                    matrix[at] += part * (components == spins or row == col)
    found = scipy.linalg.eigh(h_k, s_k, eigvals_only=True)
    expected = np.sort(eigenvalues(sample.hamiltonian, sample.overlap, k).ravel())
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_round_trip_of_a_real_crystal(tmp_path, shared_data, mote2):
    write_deeph(tmp_path / "again", mote2)
    again = read_deeph(tmp_path / "again")
    assert np.array_equal(again.hamiltonian.values, mote2.hamiltonian.values)
    for name in ("hamiltonian.h5", "overlap.h5"):
        with h5py.File(tmp_path / "again" / name) as ours, h5py.File(shared_data / "dft-outputs/deeph-MoTe2" / name) as theirs:  # fmt: skip
            a, b = (_blocks(file) for file in (ours, theirs))
        assert set(a) == set(b)
        assert max(np.abs(a[key] - b[key]).max() for key in b) < 1e-8


def _blocks(file):
    pairs, bounds, entries = (file[name][()] for name in ("atom_pairs", "chunk_boundaries", "entries"))
    return {tuple(pair): entries[a:b] for pair, a, b in zip(pairs.tolist(), bounds, bounds[1:])}


def test_overlap_with_spin(tmp_path, random_crystal):
    """Some files hold diag(S, S)."""
    write_deeph(tmp_path / "x", random_crystal(Spin.SPINOR))
    expected = read_deeph(tmp_path / "x").overlap.values
    with h5py.File(tmp_path / "x" / "overlap.h5", "r+") as file:
        shapes, bounds, entries = (file[name][()] for name in ("chunk_shapes", "chunk_boundaries", "entries"))
        blocks = [np.kron(np.eye(2), entries[a:b].reshape(s)) for a, b, s in zip(bounds, bounds[1:], shapes)]
        for name in ("chunk_shapes", "chunk_boundaries", "entries"):
            del file[name]
        file["chunk_shapes"], file["chunk_boundaries"] = 2 * shapes, 4 * bounds
        file["entries"] = np.concatenate([b.ravel() for b in blocks])
    assert np.array_equal(read_deeph(tmp_path / "x").overlap.values, expected)
    with h5py.File(tmp_path / "x" / "overlap.h5", "r+") as file:
        file["entries"][0] += 0.1
    with pytest.raises(FormatError, match=r"overlap\.h5: expected one real overlap for both spins"):
        read_deeph(tmp_path / "x")


def test_molecule_without_a_cell(tmp_path, water_sample):
    sample = water_sample(2)
    write_deeph(tmp_path / "water", sample)
    again = read_deeph(tmp_path / "water")
    assert not again.structure.pbc.any()
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert again.basis == sample.basis


def test_basis_argument(tmp_path, mote2, shared_data):
    folder = shared_data / "dft-outputs" / "deeph-MoTe2"
    wide = BasisSet("deeph", mote2.basis.shells, dict.fromkeys((42, 52), 4.5))
    sample = read_deeph(folder, wide)
    assert len(sample.hamiltonian.pairs) > len(mote2.hamiltonian.pairs)
    k = np.array([0.2, 0.1, 0.0])
    np.testing.assert_allclose(
        eigenvalues(sample.hamiltonian, sample.overlap, k), eigenvalues(mote2.hamiltonian, mote2.overlap, k), atol=1e-10
    )
    narrow = BasisSet("deeph", mote2.basis.shells, dict.fromkeys((42, 52), 3.0))
    with pytest.raises(MatrixError, match=r"hamiltonian\.h5: a value of .* lies in block \(i=.*reach 6\.000"):
        read_deeph(folder, narrow)
    other = BasisSet("deeph", {z: shells[:-1] for z, shells in mote2.basis.shells.items()}, mote2.basis.radii)
    with pytest.raises(BasisError, match="expected Mo with shells s s s p p d as in basis deeph, got s s s p p d d"):
        read_deeph(folder, other)


def test_existing_paths_and_failed_writes(tmp_path, random_crystal, monkeypatch):
    write_deeph(tmp_path / "x", random_crystal())
    with pytest.raises(FormatError, match="expected a new path"):
        write_deeph(tmp_path / "x", random_crystal())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py, "File", full)
    with pytest.raises(OSError, match="No space left"):
        write_deeph(tmp_path / "y", random_crystal())
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


def test_samples_without_overlap_are_not_written(tmp_path, water_sample):
    with pytest.raises(FormatError, match=r"sample water-1: .* got no S"):
        write_deeph(tmp_path / "x", water_sample(1, overlap=None))


@pytest.fixture
def folder(tmp_path, random_crystal):
    write_deeph(tmp_path / "random", random_crystal())
    return tmp_path / "random"


def change_info(**changes):
    def change(folder):
        path = folder / "info.json"
        info = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in info.items() if value is not ...}))

    return change


def change_h5(name, change):
    def changed(folder):
        with h5py.File(folder / "hamiltonian.h5", "r+") as file:
            value = change(file[name][()])
            del file[name]
            file[name] = value

    return changed


def write_text(name, text):
    return lambda folder: (folder / name).write_text(text)


def cut(folder):
    data = (folder / "hamiltonian.h5").read_bytes()
    (folder / "hamiltonian.h5").write_bytes(data[: len(data) // 2])


def with_(values, index, value):
    values[index] = value
    return values


def drop_blocks(folder):
    """Some blocks, but not those of the reversed pairs."""
    with h5py.File(folder / "hamiltonian.h5", "r+") as file:
        n = len(file["atom_pairs"]) - 2
        end = int(file["chunk_boundaries"][n])
        kept = {
            "atom_pairs": file["atom_pairs"][:n],
            "chunk_shapes": file["chunk_shapes"][:n],
            "chunk_boundaries": file["chunk_boundaries"][: n + 1],
            "entries": file["entries"][:end],
        }
        for name, value in kept.items():
            del file[name]
            file[name] = value


BAD = {
    "no H": (lambda folder: (folder / "hamiltonian.h5").unlink(), "expected hamiltonian.h5 or .*, got a folder without H .*--overlap"),
    "no S": (lambda folder: (folder / "overlap.h5").unlink(), "random: expected overlap.h5 .* got H without S"),
    "no info": (lambda folder: (folder / "info.json").unlink(), "info.json: no such file"),
    "no structure": (lambda folder: (folder / "POSCAR").unlink(), "POSCAR: no such file"),
    "info not json": (write_text("info.json", "{"), "info.json: expected JSON"),
    "info not an object": (write_text("info.json", "[1]"), "info.json: expected a JSON object, got list"),
    "POSCAR is text": (write_text("POSCAR", "hello\nworld\n"), "POSCAR: expected a POSCAR"),
    "truncated H": (cut, "hamiltonian.h5: expected an HDF5 file, got a truncated"),
    "no orbitals": (change_info(elements_orbital_map=...), "expected elements_orbital_map"),
    "an element without orbitals": (change_info(elements_orbital_map={"C": [0, 1]}), r"expected O as in POSCAR, got \['C'\]"),
    "unknown element": (change_info(elements_orbital_map={"Q": [0]}), "expected chemical elements, got 'Q'"),
    "orbitals of text": (change_info(elements_orbital_map={"C": ["s"], "O": [0]}), r"C: expected l = 0 to 6 .* got \['s'\]"),
    "wrong shells": (
        change_info(elements_orbital_map={"C": [0, 1], "O": [0, 0, 0, 0, 0, 1, 3]}, harmose_basis=...),
        r"orbits_quantity: expected 23 .* got 24",
    ),
    "other sizes": (
        change_info(elements_orbital_map={"C": [0, 0, 0, 0, 0], "O": [0, 1, 2, 2]}, harmose_basis=..., orbits_quantity=...),
        r"hamiltonian.h5: expected block \(i=0, j=0, R=\[0, 0, 0\]\) of shape \(5, 5\) .* got \(4, 4\)",
    ),
    "atoms": (change_info(atoms_quantity=4), "atoms_quantity: expected 3 .* got 4"),
    "spinful": (change_info(spinful=True), r"of shape \(8, 8\) by the orbitals of its atoms, got \(4, 4\)"),
    "spinful as text": (change_info(spinful="no"), "spinful: expected true or false, got 'no'"),
    "Fermi level": (change_info(fermi_energy_eV="high"), "fermi_energy_eV: expected a number or null, got 'high'"),
    "split": (change_info(spinful=True, split_hkb=True), "expected a whole Hamiltonian"),
    "missing atom": (
        change_h5("atom_pairs", lambda x: with_(x, (5, 3), 7)),
        "hamiltonian.h5: expected blocks of 3 atoms .* got one of atoms 7",
    ),
    "negative atom": (change_h5("atom_pairs", lambda x: with_(x, (5, 4), -1)), "expected blocks of 3 atoms"),
    "far cell": (
        change_h5("atom_pairs", lambda x: with_(x, (5, 0), 2**40)),
        r"lies in block \(i=\d, j=\d, R=\[1099511627776",
    ),
    "the same block twice": (change_h5("atom_pairs", lambda x: with_(x, 4, x[3])), "once, got one of block|of shape"),
    "pairs of text": (change_h5("atom_pairs", lambda x: np.array([b"0 0 0 0 0"] * len(x))), "atom_pairs': expected numbers"),
    "pairs of floats": (change_h5("atom_pairs", lambda x: x + 0.5), "expected whole numbers in atom_pairs"),
    "short pairs": (change_h5("atom_pairs", lambda x: x[:-1]), r"expected atom_pairs \(B, 5\)"),
    "wrong bounds": (change_h5("chunk_boundaries", lambda x: with_(x, 3, x[3] + 1)), "do not fit together"),
    "absurd shapes": (change_h5("chunk_shapes", lambda x: with_(x, 3, 2**40)), "do not fit together"),
    "negative shapes": (change_h5("chunk_shapes", lambda x: -x), "do not fit together"),
    "short entries": (change_h5("entries", lambda x: x[:-1]), "do not fit together"),
    "complex entries": (change_h5("entries", lambda x: x + 1j), "expected real values, got complex ones"),
    "not a number": (change_h5("entries", lambda x: with_(x, 9, np.nan)), "expected finite values"),
    "not Hermitian": (change_h5("entries", lambda x: with_(x, 1, x[1] + 1)), "to be the adjoint of"),
    "blocks missing": (drop_blocks, "is written in .* and not in"),
    "basis of harmose": (change_info(harmose_basis={"name": "x"}), "basis set: expected JSON"),
    "atoms on top of each other": (
        write_text("POSCAR", "x\n1.0\n9 0 0\n0 9 0\n0 0 9\nC O C\n1 1 1\nCartesian\n0 0 0\n0 0 0.1\n3 3 3\n"),
        "at least 0.3 angstrom apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(folder, case):
    spoil, words = BAD[case]
    spoil(folder)
    with pytest.raises(HarmoseError, match=words) as caught:
        read_deeph(folder)
    assert isinstance(caught.value, FormatError | MatrixError | StructureError | BasisError)
    assert "\n" not in str(caught.value)
    assert str(folder.name) in str(caught.value) or case == "basis of harmose"


def test_no_blocks(folder):
    with h5py.File(folder / "hamiltonian.h5", "w") as file:
        for name, shape in (("atom_pairs", (0, 5)), ("chunk_shapes", (0, 2)), ("entries", (0,))):
            file[name] = np.zeros(shape, dtype=int)
        file["chunk_boundaries"] = [0]
    with pytest.raises(FormatError, match=r"hamiltonian\.h5: expected blocks, got none"):
        read_deeph(folder)


def test_orthogonal_basis_needs_no_overlap(folder):
    change_info(orthogonal_basis=True)(folder)
    assert read_deeph(folder).overlap is not None
    (folder / "overlap.h5").unlink()
    assert read_deeph(folder).overlap is None


def test_small_box_stays_periodic(tmp_path, random_crystal):
    """A supercell at Gamma has blocks in the home cell only, but is no molecule."""
    sample = random_crystal()
    home = ~sample.hamiltonian.keys[:, 2:].any(axis=1)[sample.hamiltonian.indices[0]]
    folded = sample.hamiltonian.with_values(np.where(home, sample.hamiltonian.values, 0.0))
    overlap = sample.overlap.with_values(np.where(home, sample.overlap.values, 0.0))
    write_deeph(tmp_path / "x", replace(sample, hamiltonian=folded, overlap=overlap))
    assert read_deeph(tmp_path / "x").structure.pbc.all()
