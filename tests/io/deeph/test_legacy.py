"""DeepH's first format: the same real matrices as the format of today, round trips, local frames, and what is refused."""

import json

import h5py
import numpy as np
import pytest

from harmose.errors import HarmoseError
from harmose.io.deeph.deeph import read_deeph, write_deeph
from harmose.io.deeph.legacy import OPENMX, read_deeph_legacy, write_deeph_legacy
from harmose.so3.wigner import random_rotation, wigner_d
from harmose.spin import Spin


def test_both_formats_agree(shared_data):
    new = read_deeph(shared_data / "dft-outputs" / "deeph-MoTe2")
    old = read_deeph_legacy(shared_data / "dft-outputs" / "deeph-legacy-MoTe2")
    assert old.basis == new.basis
    assert old.fermi_level == new.fermi_level
    assert np.array_equal(old.structure.numbers, new.structure.numbers)
    np.testing.assert_allclose(old.structure.positions, new.structure.positions, atol=1e-12)
    np.testing.assert_allclose(old.structure.cell.array, new.structure.cell.array, atol=1e-12)
    assert np.array_equal(old.hamiltonian.values, new.hamiltonian.values)
    assert np.array_equal(old.overlap.values, new.overlap.values)


def test_new_to_legacy_to_new(tmp_path, shared_data):
    new = read_deeph(shared_data / "dft-outputs" / "deeph-MoTe2")
    write_deeph_legacy(tmp_path / "old", new)
    write_deeph(tmp_path / "new", read_deeph_legacy(tmp_path / "old"))
    again = read_deeph(tmp_path / "new")
    assert again.basis == new.basis
    assert np.array_equal(again.hamiltonian.values, new.hamiltonian.values)
    assert np.array_equal(again.overlap.values, new.overlap.values)
    assert np.array_equal(again.structure.positions, new.structure.positions)


def test_written_blocks_agree_with_a_published_file(tmp_path, shared_data):
    folder = shared_data / "dft-outputs" / "deeph-legacy-MoTe2"
    write_deeph_legacy(tmp_path / "again", read_deeph_legacy(folder))
    for name in ("hamiltonians.h5", "overlaps.h5"):
        with h5py.File(tmp_path / "again" / name) as ours, h5py.File(folder / name) as theirs:
            assert set(ours) == set(theirs)
            assert max(np.abs(ours[key][()] - theirs[key][()]).max() for key in theirs) < 1e-8
    for name in ("lat.dat", "rlat.dat", "site_positions.dat", "element.dat"):
        np.testing.assert_allclose(np.loadtxt(tmp_path / "again" / name), np.loadtxt(folder / name), atol=1e-14)


@pytest.mark.parametrize("spin", list(Spin))
def test_round_trip(tmp_path, random_crystal, spin):
    sample = random_crystal(spin)
    write_deeph_legacy(tmp_path / "random", sample)
    again = read_deeph_legacy(tmp_path / "random", sample.basis)
    assert again.spin is spin
    assert np.array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    assert np.array_equal(again.overlap.values, sample.overlap.values)
    assert np.array_equal(again.structure.positions, sample.structure.positions)
    assert np.array_equal(again.structure.cell.array, sample.structure.cell.array)
    assert again.fermi_level == sample.fermi_level


def test_order_of_f(tmp_path, random_crystal):
    """The block of the only oxygen, whose f orbitals are its last seven: OpenMX begins with f_z3 and f_xz2."""
    sample = random_crystal()
    write_deeph_legacy(tmp_path / "x", sample)
    with h5py.File(tmp_path / "x" / "hamiltonians.h5") as file:
        f = file["[0, 0, 0, 2, 2]"][()][9:, 9:]
    inside = sample.hamiltonian.block(1, 1)[9:, 9:]
    m = {"z3": 0, "xz2": 1, "yz2": -1, "zx2-zy2": 2, "xyz": -2, "x3-3xy2": 3, "3yx2-y3": -3}
    order = [3 + k for k in m.values()]
    assert np.array_equal(f, inside[np.ix_(order, order)])


def test_predicted_hamiltonian(tmp_path, random_crystal):
    sample = random_crystal()
    write_deeph_legacy(tmp_path / "x", sample)
    (tmp_path / "x" / "hamiltonians.h5").rename(tmp_path / "x" / "hamiltonians_pred.h5")
    assert np.array_equal(read_deeph_legacy(tmp_path / "x", sample.basis).hamiltonian.values, sample.hamiltonian.values)


def test_predicted_hamiltonian_is_not_hermitian(tmp_path, random_crystal):
    """Networks predict both directions of a pair; their mean is read. Nonsense is refused all the same."""
    sample = random_crystal()
    write_deeph_legacy(tmp_path / "x", sample)
    (tmp_path / "x" / "hamiltonians.h5").rename(tmp_path / "x" / "hamiltonians_pred.h5")
    with h5py.File(tmp_path / "x" / "hamiltonians_pred.h5", "r+") as file:
        file["[0, 0, 0, 1, 2]"][0, 0] += 0.02
    again = read_deeph_legacy(tmp_path / "x", sample.basis)
    change = again.hamiltonian.block(0, 1) - sample.hamiltonian.block(0, 1)
    assert change[0, 0] == pytest.approx(0.01)
    assert np.count_nonzero(np.abs(change) > 1e-12) == 1
    with h5py.File(tmp_path / "x" / "hamiltonians_pred.h5", "r+") as file:
        file["[0, 0, 0, 1, 2]"][0, 0] += 5.0
    with pytest.raises(HarmoseError, match=r"hamiltonians_pred\.h5: .* the two differ by 5"):
        read_deeph_legacy(tmp_path / "x", sample.basis)


def local_frames(folder, sample, skip=()):
    """Turn hamiltonians.h5 into rh.h5 and rc.h5 as DeepH does, block by block: H' = U^T H U in OpenMX's order."""
    rng, frames = np.random.default_rng(5), {}
    written = (h5py.File(folder / name, "w") for name in ("rh.h5", "rc.h5"))
    with h5py.File(folder / "hamiltonians.h5") as file, next(written) as rh, next(written) as rc:
        for name in file:
            i, j = (int(x) - 1 for x in name[1:-1].split(",")[3:])
            q = frames.setdefault(name, random_rotation(rng))
            u1, u2 = (openmx_wigner(sample.basis.degrees(sample.structure.numbers[a]), q) for a in (i, j))
            rh[name] = u1.T @ file[name][()] @ u2
            if name not in skip:
                rc[name] = q
    (folder / "hamiltonians.h5").unlink()


def openmx_wigner(degrees, q):
    shells = [wigner_d(l, q) for l in degrees]
    inside = np.zeros((sum(map(len, shells)),) * 2)
    start = 0
    for shell in shells:
        inside[start : start + len(shell), start : start + len(shell)] = shell
        start += len(shell)
    return OPENMX.from_inside(inside, degrees)


def test_local_frames(tmp_path, random_crystal):
    sample = random_crystal()
    write_deeph_legacy(tmp_path / "x", sample)
    local_frames(tmp_path / "x", sample)
    again = read_deeph_legacy(tmp_path / "x", sample.basis)
    np.testing.assert_allclose(again.hamiltonian.values, sample.hamiltonian.values, atol=1e-13)
    (tmp_path / "x" / "rh.h5").rename(tmp_path / "x" / "rh_pred.h5")
    assert np.array_equal(read_deeph_legacy(tmp_path / "x", sample.basis).hamiltonian.values, again.hamiltonian.values)


def test_bad_local_frames(tmp_path, random_crystal):
    sample = random_crystal()
    write_deeph_legacy(tmp_path / "x", sample)
    local_frames(tmp_path / "x", sample, skip=["[0, 0, 0, 1, 2]"])
    with pytest.raises(HarmoseError, match=r"rc\.h5: expected the axes \(3, 3\) of every block .*, got 1 missing"):
        read_deeph_legacy(tmp_path / "x")
    with h5py.File(tmp_path / "x" / "rc.h5", "r+") as file:
        file["[0, 0, 0, 1, 2]"] = 2 * np.eye(3)
    with pytest.raises(HarmoseError, match=r"rc\.h5: expected orthonormal axes"):
        read_deeph_legacy(tmp_path / "x")
    (tmp_path / "x" / "rc.h5").unlink()
    with pytest.raises(HarmoseError, match=r"rc\.h5: no such file"):
        read_deeph_legacy(tmp_path / "x")
    info = json.loads((tmp_path / "x" / "info.json").read_text())
    (tmp_path / "x" / "info.json").write_text(json.dumps(info | {"isspinful": True}))
    with pytest.raises(HarmoseError, match=r"rh\.h5: expected hamiltonians\.h5 for a spinful calculation"):
        read_deeph_legacy(tmp_path / "x")


def dataset(name, value, drop=False):
    def change(folder):
        with h5py.File(folder / "hamiltonians.h5", "r+") as file:
            if drop or name in file:
                del file[name]
            if not drop:
                file[name] = value

    return change


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def gone(name):
    return lambda folder: (folder / name).unlink()


def halved(folder):
    data = (folder / "overlaps.h5").read_bytes()
    (folder / "overlaps.h5").write_bytes(data[: len(data) // 2])


BAD = {
    "no H": (gone("hamiltonians.h5"), "x: expected hamiltonians.h5 or hamiltonians_pred.h5, got a folder without H .*--overlap"),
    "no S": (gone("overlaps.h5"), "x: expected overlaps.h5 .* got H without S"),
    "no info": (gone("info.json"), "info.json: no such file"),
    "no lattice": (gone("lat.dat"), "lat.dat: no such file"),
    "no shells": (gone("orbital_types.dat"), "orbital_types.dat: no such file"),
    "truncated S": (halved, "overlaps.h5: expected an HDF5 file, got a truncated"),
    "lattice of text": (text("lat.dat", "a b c"), "lat.dat: expected a table of numbers"),
    "two lattice vectors": (text("lat.dat", "1 2\n3 4\n5 6"), "expected three lattice vectors"),
    "ragged": (text("site_positions.dat", "1 2\n3\n5 6"), "site_positions.dat: expected a table of numbers"),
    "elements": (text("element.dat", "6\n8\n6\n6"), "as many positions as elements, got 3, 3 and 4"),
    "no element": (text("element.dat", "6\n8\n200"), r"expected atomic numbers, got \[6"),
    "shells of too few atoms": (text("orbital_types.dat", "0 1\n0 1 2 3"), "expected the shells of 3 atoms, got 2 lines"),
    "shells of text": (text("orbital_types.dat", "0 1\n0 1 2 3\n0 p"), "expected l = 0 to 6"),
    "shells of other blocks": (text("orbital_types.dat", "0 1\n0 1 2 3\n0 2"), "expected block .*6.* by the orbitals of its atoms"),
    "missing atom": (dataset("[0, 0, 0, 1, 4]", np.zeros((4, 4))), "expected blocks of 3 atoms .* atoms 0 and 3"),
    "atom 0": (dataset("[0, 0, 0, 0, 1]", np.zeros((4, 4))), "expected blocks of 3 atoms .* atoms -1 and 0"),
    "key of text": (dataset("hello", np.zeros((4, 4))), r"expected datasets '\[Rx, Ry, Rz, i, j\]' .*, got 'hello'"),
    "key of six": (dataset("[0, 0, 0, 1, 1, 1]", np.zeros((4, 4))), "expected datasets"),
    "flat block": (dataset("[0, 0, 0, 1, 1]", np.zeros(16)), r"expected datasets .*, got '\[0, 0, 0, 1, 1\]'"),
    "wrong shape": (dataset("[0, 0, 0, 1, 2]", np.zeros((4, 9))), r"\(i=0, j=1, R=\[0, 0, 0\]\) of shape \(4, 16\) .* got \(4, 9\)"),
    "block missing": (dataset("[0, 0, 0, 1, 2]", None, drop=True), r"written in \(i=1, j=0.*and not in \(i=0, j=1"),
    "not Hermitian": (dataset("[0, 0, 0, 1, 1]", np.arange(16.0).reshape(4, 4)), "to be the adjoint of"),
    "spinful": (text("info.json", '{"isspinful": true}'), r"of shape \(8, .* got \(4, "),
    "Fermi level": (text("info.json", '{"fermi_level": "high"}'), "fermi_level: expected a number or null"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path, random_crystal, case):
    write_deeph_legacy(tmp_path / "x", random_crystal())
    spoil, words = BAD[case]
    spoil(tmp_path / "x")
    with pytest.raises(HarmoseError, match=words) as caught:
        read_deeph_legacy(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_empty_file(tmp_path, random_crystal):
    write_deeph_legacy(tmp_path / "x", random_crystal())
    h5py.File(tmp_path / "x" / "hamiltonians.h5", "w").close()
    with pytest.raises(HarmoseError, match=r"hamiltonians\.h5: expected blocks, got an empty file"):
        read_deeph_legacy(tmp_path / "x")
