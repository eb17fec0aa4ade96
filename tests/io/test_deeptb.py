"""DeePTB's data folders: 64 silicon atoms, several frames, and what is refused."""

import h5py
import numpy as np
import pytest

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import check_sample
from harmose.errors import FormatError, MatrixError
from harmose.io.deeptb import read_deeptb
from harmose.io.disassembly import all_blocks
from harmose.physics.eigen import eigenvalues


def test_silicon(shared_data, unequal_m):
    """Single zeta: 128 bands are filled, the gap at Gamma of 64 atoms is that of the crystal at X and L folded to it."""
    sample = harmose.read(shared_data / "dft-outputs" / "deeptb-Si64")
    check_sample(sample)
    assert (sample.structure.get_chemical_formula(), sample.name) == ("Si64", "deeptb-Si64")
    assert {sample.fermi_level, sample.n_electrons, sample.energy} == {None}
    assert " ".join(map(str, sample.basis.shells[14])) == "1s 2p"
    assert unequal_m(sample.structure, sample.overlap) < 2e-6
    # H has pairs that S lacks, between atoms 7 to 8 angstrom apart
    assert (len(sample.hamiltonian.pairs), sample.structure.pbc.all()) == (sample.overlap.pairs.shape[0], True)
    levels = eigenvalues(sample.hamiltonian, sample.overlap, np.zeros((1, 3)))[0]
    assert levels[127] - levels[0] == pytest.approx(12.54, abs=0.01)
    assert levels[128] - levels[127] == pytest.approx(1.75, abs=0.01)


def write(folder, samples, first=0, both=True):
    """Write samples of one system as the frames of a folder; `first`: the number of the first atom and frame."""
    folder.mkdir(parents=True)
    structure = samples[0].structure
    np.savetxt(folder / "atomic_numbers.dat", structure.numbers, fmt="%d")
    np.savetxt(folder / "positions.dat", np.concatenate([sample.structure.positions for sample in samples]))
    np.savetxt(folder / "cell.dat", structure.cell.array)
    np.savetxt(folder / "pbc.dat", structure.pbc)
    (folder / "basis.dat").write_text("{'C': '1s1p', 'O': '1s1p1d1f'}")
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(folder / name, "w") as file:
            for k, sample in enumerate(samples):
                blocks = all_blocks(sample.hamiltonian if name[0] == "h" else sample.overlap)
                n = len(sample.hamiltonian.keys)
                group = file.create_group(str(k + first))
                for (i, j, *cell), start, end, shape in zip(
                    blocks.keys[: None if both else n].tolist(), blocks.offsets, blocks.offsets[1:], blocks.shapes
                ):
                    key = "_".join(map(str, (i + first, j + first, *cell)))
                    group[key] = blocks.values[0, start:end].reshape(shape).astype(np.float32)
    return folder


@pytest.fixture
def sample(random_crystal):
    made = random_crystal()
    shells = {6: (Shell(1, 0), Shell(2, 1)), 8: (Shell(1, 0), Shell(2, 1), Shell(3, 2), Shell(4, 3))}
    return made, BasisSet("random", shells, made.basis.radii)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("both", [True, False])
def test_blocks(tmp_path, sample, first, both):
    made, basis = sample
    found = harmose.read(write(tmp_path / "x", [made], first, both), basis=basis)
    np.testing.assert_allclose(found.hamiltonian.values, made.hamiltonian.values, atol=1e-6)
    np.testing.assert_allclose(found.overlap.values, made.overlap.values, atol=1e-6)
    np.testing.assert_allclose(found.structure.positions, made.structure.positions)
    assert found.structure.pbc.all()


def test_frames(tmp_path, sample):
    made, basis = sample
    write(tmp_path / "data", [made] * 11)
    found = list(harmose.read_all(tmp_path, basis=basis))
    assert [one.name for one in found] == [f"data/{k}" for k in range(11)]
    assert np.array_equal(found[0].hamiltonian.values, found[10].hamiltonian.values)
    with pytest.raises(FormatError, match="expected the name of one of its 11 frames"):
        read_deeptb(tmp_path / "data")


def test_positions_and_periodic_directions_of_info(tmp_path, sample):
    made, basis = sample
    folder = write(tmp_path / "set" / "x", [made])
    np.savetxt(folder / "positions.dat", made.structure.get_scaled_positions(wrap=False))
    (folder / "pbc.dat").unlink()
    with pytest.raises(FormatError, match=r"expected periodic directions in pbc.dat or info.json \(pbc\), got None"):
        read_deeptb(folder, basis)
    (tmp_path / "set" / "info.json").write_text('{"pos_type": "frac", "pbc": true}')
    np.testing.assert_allclose(read_deeptb(folder, basis).structure.positions, made.structure.positions)


def test_pairs_without_overlap(tmp_path, sample):
    """They are zero in S."""
    made, basis = sample
    folder = write(tmp_path / "x", [made])
    with h5py.File(folder / "overlaps.h5", "r+") as file:
        del file["0/0_1_0_0_0"], file["0/1_0_0_0_0"]
    found = read_deeptb(folder, basis)
    assert not found.overlap.block(0, 1).any()
    assert np.array_equal(found.overlap.pairs, found.hamiltonian.pairs)


def spinful(file):
    value = np.kron(np.eye(2), file["0/0_0_0_0_0"][()])
    del file["0/0_0_0_0_0"]
    file["0/0_0_0_0_0"] = value


def renamed(file):
    file.move("0/0_0_0_0_0", "0/first")


def asymmetric(file):
    file["0/0_1_0_0_0"][0, 0] += 0.1


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (spinful, FormatError, r"0_0_0_0_0: expected a real block of shape \(4, 4\) .* without spin"),
        (renamed, FormatError, "expected datasets i_j_Rx_Ry_Rz with a block each, got 'first'"),
        (asymmetric, MatrixError, r"the two differ by 1.00e-01"),
    ],
)
def test_bad_blocks(tmp_path, sample, spoil, error, match):
    made, basis = sample
    folder = write(tmp_path / "x", [made])
    with h5py.File(folder / "hamiltonians.h5", "r+") as file:
        spoil(file)
    with pytest.raises(error, match=rf"hamiltonians\.h5: .*{match}"):
        read_deeptb(folder, basis)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("basis.dat", "{'C': '1s1p'}", r"basis\.dat: expected the shells of O as \{'Si': '2s2p1d'\}"),
        ("basis.dat", "__import__('os')", r"basis\.dat: expected the shells of C, O as"),
        ("cell.dat", "1 2\n", r"cell\.dat: expected three lattice vectors a frame, got shape \(1, 2\)"),
        ("cell.dat", "x", r"cell\.dat: expected a table of numbers"),
        ("positions.dat", "0 0 0\n", r"expected positions of 1 frames and as many atomic numbers"),
        ("atomic_numbers.dat", "0\n6\n8\n", r"atomic_numbers\.dat: expected atomic numbers, got \[0.0, 6.0, 8.0\]"),
    ],
)
def test_bad_text(tmp_path, sample, name, text, match):
    folder = write(tmp_path / "x", [sample[0]])
    (folder / name).write_text(text)
    with pytest.raises(FormatError, match=match):
        read_deeptb(folder)


def test_folder_without_h(tmp_path, sample):
    folder = write(tmp_path / "x", [sample[0]])
    (folder / "hamiltonians.h5").unlink()
    with pytest.raises(FormatError, match=r"x: expected a data folder of DeePTB, got one without hamiltonians.h5"):
        harmose.read(folder)
