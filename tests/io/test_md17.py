"""MD17's Hamiltonians: ASE databases and arrays in the published layouts, written with PySCF's matrices."""

from base64 import b64encode

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as named

from harmose.errors import FormatError, HarmoseError
from harmose.io.files import open_source, read, read_all
from harmose.io.md17 import ORCA, MD17Arrays, MD17Database
from harmose.io.pyscf import pyscf as io
from harmose.physics.eigen import eigenvalues
from harmose.so3.conventions import E3NN, PYSCF, Convention
from harmose.units import BOHR, HARTREE

# The tables of QHNet's public code for these files: `ours[k] = theirs[map[k]]` within a shell, no signs.
QHNET = {0: [0], 1: [2, 0, 1], 2: [4, 2, 0, 1, 3]}


@pytest.fixture(scope="module")
def frames() -> list[tuple[Atoms, np.ndarray, np.ndarray]]:
    """Frames of formaldehyde with H (kinetic and nuclear) and S in harmose's order, Hartree."""
    found = []
    for seed in range(3):
        atoms = named("H2CO")
        atoms = Atoms(atoms.numbers, atoms.positions + 0.05 * np.random.default_rng(seed).normal(size=(4, 3)))
        mol = io.molecule(atoms, "def2-svp")
        h = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
        found.append((atoms, *(PYSCF.to_inside(m, degrees(atoms)) for m in (h, mol.intor("int1e_ovlp")))))
    return found


def degrees(atoms) -> list[int]:
    return [l for z in atoms.numbers.tolist() for l in ((0, 0, 1) if z == 1 else (0, 0, 0, 1, 1, 2))]


def in_order(frames, convention: Convention):
    return [(a, *(convention.from_inside(m, degrees(a)) for m in (h, s))) for a, h, s in frames]


def database(path, frames, pack=lambda key, matrix: {key: matrix}, metadata=None):
    """Write a database like SchNOrb's script with SchNetPack and ASE; matrices are float32."""
    with ase.db.connect(str(path)) as db:
        for k, (atoms, h, s) in enumerate(frames):
            data = {**pack("hamiltonian", h.astype(np.float32)), **pack("overlap", s.astype(np.float32))}
            db.write(atoms, data={**data, "energy": np.array([-0.5 * k]), "forces": np.zeros((len(atoms), 3))})
        db.metadata = metadata or {}
    return path


def as_base64(key, matrix):
    """Encode a matrix like SchNetPack before 1.0."""
    packed = b64encode(matrix.tobytes()).decode()
    return {key: packed, f"_shape_{key}": list(matrix.shape), f"_dtype_{key}": str(matrix.dtype)}


def assert_read(samples, frames, tolerance=1e-4):
    for sample, (atoms, h, s) in zip(samples, frames, strict=True):
        np.testing.assert_allclose(sample.structure.positions, atoms.positions, atol=1e-9)
        np.testing.assert_allclose(sample.hamiltonian.dense(), h * HARTREE, atol=tolerance)
        np.testing.assert_allclose(sample.overlap.dense(), s, atol=1e-6)
        assert sample.n_electrons == 16


def test_orca_order_agrees_with_qhnet():
    for l, order in QHNET.items():
        index, sign = ORCA.indices([l])
        assert index.tolist() == order
        assert (sign == 1).all()


@pytest.mark.parametrize("pack", [lambda key, matrix: {key: matrix}, as_base64], ids=["arrays", "base64"])
def test_database(tmp_path, frames, pack):
    path = database(tmp_path / "schnorb_hamiltonian_x.db", in_order(frames, ORCA), pack, {"mean_energy": -114.0})
    samples = list(read_all(path))
    assert_read(samples, frames)
    assert [s.name for s in samples] == ["1", "2", "3"]
    assert samples[1].energy == pytest.approx(-114.5 * HARTREE, abs=1e-9)
    assert read(path, "2").energy == samples[1].energy
    with pytest.raises(FormatError, match="no frame '4'"):
        read(path, "4")
    h, s = frames[0][1:]
    expected = np.linalg.eigvals(np.linalg.solve(s, h)).real.min() * HARTREE
    assert eigenvalues(samples[0].hamiltonian, samples[0].overlap).min() == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("convention", [ORCA, PYSCF, E3NN], ids=lambda c: c.name)
@pytest.mark.parametrize("unit", [1.0, BOHR])
def test_arrays_of_any_order_and_unit(tmp_path, frames, convention, unit):
    ordered = in_order(frames, convention)
    np.savez(
        tmp_path / "x.npz",
        Z=frames[0][0].numbers,
        R=np.stack([a.positions for a, *_ in ordered]) / unit,
        hamiltonian=np.stack([h for _, h, _ in ordered]),
        overlap=np.stack([s for *_, s in ordered]),
        E=np.array([-1.0, -2.0, -3.0]),
    )
    samples = list(read_all(tmp_path / "x.npz"))
    assert_read(samples, frames, tolerance=1e-10)
    assert [s.name for s in samples] == ["0", "1", "2"]
    assert samples[2].energy == pytest.approx(-3 * HARTREE)


def test_numbers_for_every_frame(tmp_path, frames):
    arrays = dict(
        numbers=np.stack([a.numbers for a, *_ in frames]),
        positions=np.stack([a.positions for a, *_ in frames]),
        H=np.stack([h for _, h, _ in frames]),
        S=np.stack([s for *_, s in frames]),
    )
    np.savez(tmp_path / "x.npz", **arrays)
    samples = list(read_all(tmp_path / "x.npz"))
    assert [sample.name for sample in samples] == ["0", "1", "2"]
    assert_read(samples, frames, tolerance=1e-10)


def arrays_of(frames, **changes):
    arrays = dict(
        numbers=frames[0][0].numbers,
        positions=np.stack([a.positions for a, *_ in frames]),
        hamiltonian=np.stack([h for _, h, _ in frames]),
        overlap=np.stack([s for *_, s in frames]),
    )
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


BAD_ARRAYS = {
    "no S": (dict(overlap=None), "got H without S: its orbitals may be in any order"),
    "no positions": (dict(positions=None), "expected positions, got no array of this name"),
    "frames": (dict(hamiltonian=np.zeros((2, 38, 38))), "hamiltonian of as many frames"),
    "one frame": (dict(positions=np.zeros((4, 3))), r"expected positions \(F, N, 3\)"),
    "other size": (
        dict(hamiltonian=np.zeros((3, 9, 9))),
        r"expected H and S of 38 orbitals \(def2-svp\), got \(9, 9\)",
    ),
    "other atoms": (dict(numbers=np.array([6, 1, 1])), "expected positions of 3 atoms, got shape"),
    "no element": (dict(numbers=np.array([6, 8, 1, 0])), "expected a chemical element, got atomic number 0"),
    "other overlap": (dict(overlap=np.stack([np.eye(38)] * 3)), "expected S of def2-svp in ORCA's, .* differs by 0"),
    "complex": (dict(hamiltonian=np.zeros((3, 38, 38)) * 1j), "expected arrays of real numbers"),
    "objects": (dict(energy=np.array([{}] * 3)), "expected a .npz of numbers"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays(tmp_path, frames, case):
    changes, words = BAD_ARRAYS[case]
    np.savez(tmp_path / "x.npz", **arrays_of(frames, **changes))
    with pytest.raises(HarmoseError, match=words) as caught:
        open_source(tmp_path / "x.npz")["0"]
    assert "x.npz" in str(caught.value) or case == "no element"


def test_bad_databases(tmp_path, frames):
    path = database(tmp_path / "x.db", in_order(frames, ORCA), lambda key, m: {} if key == "overlap" else {key: m})
    with pytest.raises(FormatError, match=r"x\.db: frame 1: .* got H without S"):
        read(path, "1")
    path = database(tmp_path / "y.db", in_order(frames, ORCA), lambda key, m: {} if key == "hamiltonian" else {key: m})
    with pytest.raises(FormatError, match=r"y\.db: frame 1: .* got no H"):
        read(path, "1")
    short = lambda key, m: {**as_base64(key, m), key: "AAAA"}  # noqa: E731
    path = database(tmp_path / "z.db", in_order(frames, ORCA), short)
    with pytest.raises(FormatError, match=r"z\.db: frame 1: expected a readable row of an ASE database, got damage"):
        read(path, "1")
    (tmp_path / "none.db").write_bytes(b"")
    with pytest.raises(FormatError, match="expected an ASE database, got another file"):
        MD17Database(tmp_path / "none.db")
    assert (tmp_path / "none.db").read_bytes() == b""


def test_arrays_stay_on_disk(tmp_path, frames):
    """Matrices that are not compressed are mapped; compressed ones give the same; a changed byte is found by its checksum."""
    arrays = arrays_of(frames)
    np.savez(tmp_path / "x.npz", **arrays)
    np.savez_compressed(tmp_path / "y.npz", **arrays)
    source = MD17Arrays(tmp_path / "x.npz")
    assert isinstance(source._arrays["hamiltonian"], np.memmap)
    for name, one in zip(source.names(), read_all(tmp_path / "y.npz"), strict=True):
        np.testing.assert_array_equal(source[name].hamiltonian.values, one.hamiltonian.values)
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    where = bytes(raw).index(arrays["hamiltonian"].tobytes()[:64])
    raw[where] ^= 1
    (tmp_path / "z.npz").write_bytes(raw)
    with pytest.raises(FormatError, match=r"z\.npz: expected a .npz of numbers, got a damaged"):
        MD17Arrays(tmp_path / "z.npz")
