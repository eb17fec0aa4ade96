"""Bad samples are found, each by its own sentence; good ones are left in peace."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import block_values, empty_matrix
from harmose.core.graph import build_graph
from harmose.core.sample import Sample
from harmose.data.checks import check, fingerprint
from harmose.data.record import encode
from harmose.data.store import Store
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import basis_set, molecule, overlap, to_blocks
from harmose.so3.wigner import random_rotation


def texts(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in check(store):
        found.setdefault(problem.sample, []).append(problem.text)
    return found


def test_good_store_has_no_problems(water_store):
    with Store.open(water_store) as store:
        assert check(store) == []


def with_all_degrees() -> Sample:
    """Ethyne's C-H in a basis with s, p, d and f on both atoms; H is the kinetic energy."""
    basis = basis_set("cc-pvqz", [1, 6])
    atoms = Atoms("CH", [[0.1, 0.2, 0.3], [0.5, -0.6, 0.9]], info={"charge": 1})
    blocks = zeros(atoms, basis)
    h = to_blocks(molecule(atoms, "cc-pvqz").intor("int1e_kin"), blocks)
    return Sample("ch", atoms, basis, h, overlap=overlap(atoms, "cc-pvqz", basis))


def test_pyscf_overlaps_of_all_l_pass(tmp_path):
    sample = with_all_degrees()
    assert sample.basis.l_max == 4
    with Store.create(tmp_path / "s", sample.basis) as store:
        store.append(sample)
        assert check(store) == []


def test_other_orbitals_with_the_same_shells(tmp_path, water_store):
    """Oxygen's two s orbitals mixed: the same matrices in other orbitals, which energies do not show."""
    with Store.open(water_store) as store:
        one, two = store["water-0"], store["water-1"]
    change = np.eye(two.hamiltonian.n_orbitals)
    assert two.basis.degrees(8)[:2] == (0, 0)
    change[0, 1] = 0.3
    turned = {
        name: block_values(change @ getattr(two, name).dense() @ change.T, getattr(two, name))
        for name in ("hamiltonian", "overlap")
    }
    with Store.create(tmp_path / "s", one.basis) as store:
        store.append(one)
        store.append(replace(two, prior=None, **turned), check=False)
        (only,) = texts(store)["water-1"]
        assert only.startswith("other orbitals of O than in 'water-0': their on-site S differs by up to 0.")


@pytest.mark.parametrize("l", [1, 2, 3])
@pytest.mark.parametrize("what", ["order", "sign"])
def test_wrong_order_of_orbitals(tmp_path, l, what):
    sample = with_all_degrees()
    change = np.eye(sample.hamiltonian.n_orbitals)
    start = 0
    for z in sample.structure.numbers:
        for degree in sample.basis.degrees(int(z)):
            if degree == l:
                shell = slice(start, start + 2 * l + 1)
                block = np.eye(2 * l + 1)
                change[shell, shell] = np.roll(block, 1, axis=0) if what == "order" else np.diag([-1.0] + [1.0] * 2 * l)
            start += 2 * degree + 1
    blocks = zeros(sample.structure, sample.basis)
    bad = replace(
        sample,
        hamiltonian=block_values(change @ sample.hamiltonian.dense() @ change.T, blocks),
        overlap=block_values(change @ sample.overlap.dense() @ change.T, blocks),
    )
    assert np.allclose(np.linalg.eigvalsh(bad.overlap.dense()), np.linalg.eigvalsh(sample.overlap.dense()))
    with Store.create(tmp_path / "s", sample.basis) as store:
        store.append(bad)
        assert "wrong order or sign" in texts(store)["ch"][0]


def test_each_problem_has_its_own_text(water_store, water_sample):
    good = water_sample(20)
    with Store.open(water_store, writable=True) as store:
        scrambled = good.hamiltonian.dense()[:, [0, 1, 3, 2, 4, 5, 6]][[0, 1, 3, 2, 4, 5, 6]]
        faults = {
            "scrambled": replace(good, hamiltonian=block_values(scrambled, good.hamiltonian)),
            "shifted": replace(water_sample(21), orbital_energies=water_sample(21).orbital_energies + 0.01),
            "few": replace(water_sample(22), orbital_energies=np.arange(3.0)),
            "lazy": replace(water_sample(23), prior=water_sample(23).hamiltonian),
            "loose": replace(water_sample(24), provenance={"converged": False}),
            "again": water_sample(3),
            "nan": replace(water_sample(25), hamiltonian=good.hamiltonian.with_values(good.overlap.values * np.nan)),
        }
        for name, sample in faults.items():
            store.append(replace(sample, name=name), check=False)
        found = texts(store)
    assert set(found) == set(faults)
    assert "orbital energies of (H, S) differ" in found["scrambled"][0]
    assert "differ from the stored ones by 0.01 eV" in found["shifted"][0]
    assert found["few"] == ["expected 7 orbital energies, got 3"]
    assert found["lazy"] == ["H equals H0, so the calculation has not run"]
    assert found["loose"] == ["the calculation did not converge"]
    assert found["again"] == ["the same structure as 'water-3'"]
    assert "finite values in H" in found["nan"][0]


def test_corrupt_record(water_store):
    with Store.open(water_store) as store:
        raw = store.record("water-2")
    file = water_store / "data.mdb"
    file.write_bytes(file.read_bytes().replace(raw, raw[:-1] + bytes([raw[-1] ^ 1])))
    with Store.open(water_store) as store:
        found = texts(store)
    assert set(found) == {"water-2"}
    assert "checksum" in found["water-2"][0]


def test_fingerprint_of_molecules(water_atoms):
    atoms = water_atoms(0)
    moved = atoms.copy()
    moved.positions = atoms.positions @ random_rotation(np.random.default_rng(1)).T + [1.0, -2.0, 3.0]
    assert fingerprint(moved) == fingerprint(atoms)
    # bonds written with five decimals lie on the edge between two roundings
    edge = Atoms("OHH", [[0, 0, 0], [0.95725, 0, 0], [0, 0.95725, 0]])
    turned = edge.copy()
    turned.positions = edge.positions @ random_rotation(np.random.default_rng(2)).T
    assert fingerprint(turned) == fingerprint(edge)
    moved.positions[1] += 0.001
    assert fingerprint(moved) != fingerprint(atoms)
    other = atoms.copy()
    other.numbers[0] = 16
    assert fingerprint(other) != fingerprint(atoms)


def test_fingerprint_of_crystals():
    atoms = Atoms(
        "C2", [[0, 0, 7.5], [0, 1.42, 7.5]], cell=[[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 15.0]], pbc=[1, 1, 0]
    )
    moved = atoms.copy()
    moved.positions += [0.3, 0.4, 0.5]
    moved.positions[1] += 3 * atoms.cell[0] - atoms.cell[1]
    assert fingerprint(moved) == fingerprint(atoms)
    stretched = atoms.copy()
    stretched.set_cell(atoms.cell * 1.01, scale_atoms=True)
    assert fingerprint(stretched) != fingerprint(atoms)


def test_crystals_without_energies_can_be_checked(tmp_path):
    basis = BasisSet("toy", {6: (Shell(2, 0),)}, {6: 1.2})
    atoms = Atoms(
        "C2", [[0, 0, 7.5], [0, 1.42, 7.5]], cell=[[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 15.0]], pbc=[1, 1, 0]
    )
    graph = build_graph(atoms, basis)
    empty = empty_matrix(basis, graph.numbers, graph.pairs)
    s = empty.with_values(np.where(empty.is_onsite, 1.0, 0.2)[None])
    with Store.create(tmp_path / "s", basis) as store:
        store.append(Sample("graphene", atoms, basis, s.with_values(-s.values), overlap=s))
        assert check(store) == []


def test_isolated_atoms(tmp_path, shared_data):
    """They have no pairs, and no problem; also beside structures with pairs."""
    from harmose.io.files import read, write

    write(tmp_path / "bi", read(shared_data / "cases" / "05-isolated-atom" / "Bi"))
    with Store.open(tmp_path / "bi") as store:
        assert check(store) == []


def test_an_isolated_atom_among_molecules(tmp_path, water_basis, water_sample):
    sample = water_sample(0)
    atom = sample.structure[:1]
    s = overlap(atom, "sto-3g", water_basis)
    alone = replace(sample, name="atom", structure=atom, hamiltonian=zeros(atom, water_basis), overlap=s, prior=None,
                    orbital_energies=None, n_electrons=8.0)  # fmt: skip
    with Store.create(tmp_path / "x", water_basis) as store:
        store.append_all([sample, alone])
        assert check(store) == []


@pytest.mark.parametrize("kind", ["element", "orbitals", "settings", "alone"])
def test_one_odd_sample_is_named(tmp_path, water_basis, water_sample, kind):
    """One sample of another element or basis set, however it got there, is named; the others are left in peace."""
    basis = basis_set("sto-3g", [1, 8, 9])
    odd = water_sample(50, name="odd")
    if kind in ("element", "alone"):  # hydrogen fluoride; with the element or not in the store's basis set
        atoms = Atoms("FH", [[0, 0, 0], [0, 0, 0.92]])
        layout = zeros(atoms, basis)
        h = to_blocks(molecule(atoms, "sto-3g").intor("int1e_kin"), layout)
        odd = Sample("odd", atoms, basis, h, overlap=overlap(atoms, "sto-3g", basis))
    elif kind == "orbitals":
        atoms, larger = odd.structure, basis_set("6-31g", [1, 8])
        h = to_blocks(molecule(atoms, "6-31g").intor("int1e_kin"), zeros(atoms, larger))
        odd = Sample("odd", atoms, larger, h)
    else:
        odd = replace(odd, provenance={"code": "pyscf", "basis": "6-31g", "functional": "pbe"})
    metadata = {"functional": "pbe", "basis": "sto-3g"}
    with Store.create(tmp_path / "s", basis if kind == "alone" else water_basis, metadata=metadata) as store:
        store.append_all(water_sample(k) for k in range(10))
        store.append_records([("odd", encode(odd))])
        store.append_all(water_sample(k) for k in range(10, 20))
        found = texts(store)
    assert list(found) == ["odd"]
    (line,) = found["odd"]
    assert "\n" not in line
    expected = {
        "element": "sample 'odd' is unreadable: basis sto-3g: expected one of H, O, got F",
        "orbitals": "sample 'odd' is unreadable",
        "settings": "calculated with the basis 6-31g, the store's is sto-3g",
        "alone": "the only one of 21 samples with F: nothing can be learned about one example of an element",
    }
    assert expected[kind] in line
