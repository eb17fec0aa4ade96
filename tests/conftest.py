"""Fixtures of many tests: water in STO-3G with real integrals but no self-consistency, and the data beside the checkout."""

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.spin import Spin

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.471], [0.0, -0.757, -0.471]])
"""Positions of O, H, H in angstrom."""

NO_DATA = "../shared/data is not there"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, object, object]:
    """Count the tests that miss the data beside the checkout in one line, instead of naming them among the skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    others = [report for report in skipped if NO_DATA not in str(report.longrepr)]
    terminalreporter.stats["skipped"] = others
    result = yield
    if len(skipped) > len(others):
        n = len(skipped) - len(others)
        terminalreporter.write_line(f"{n} test{'s' if n > 1 else ''} skipped: {NO_DATA}", yellow=True)
    if skipped:
        terminalreporter.stats["skipped"] = skipped
    return result


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real DFT data beside the checkout. Without it the test is skipped."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(NO_DATA)
    return folder


@pytest.fixture(scope="session")
def graphene(shared_data) -> Callable[[str], Sample]:
    """`graphene(name)`: a structure of the published file; pristine_1x1, pristine_3x3, mg_000 to mg_020."""
    import importlib.util
    from functools import cache

    import h5py

    importer = Path(__file__).parents[1] / "examples" / "results" / "crystals_h5.py"
    spec = importlib.util.spec_from_file_location("crystals_h5", importer)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    @cache
    def read(name: str) -> Sample:
        with h5py.File(shared_data / "crystals" / "graphene.h5") as file:
            return next(example.samples(file, [name], example.basis_set(file), {}))

    return read


@pytest.fixture(scope="session")
def water_basis() -> BasisSet:
    from harmose.io.pyscf.pyscf import basis_set

    return basis_set("sto-3g", [1, 8])


@pytest.fixture(scope="session")
def water_atoms() -> Callable[[int], Atoms]:
    """Water with its atoms displaced by 0.05 angstrom, at random but the same for the same seed."""
    return lambda seed: Atoms("OHH", WATER + 0.05 * np.random.default_rng(seed).normal(size=(3, 3)))


@pytest.fixture(scope="session")
def water_sample(water_atoms, water_basis) -> Callable[..., Sample]:
    """`water_sample(seed, **changes)`: kinetic energy plus nuclear attraction as H, its half as H0, the overlap as S.

    All of it transforms as a Hamiltonian must, and `orbital_energies` are those of (H, S).
    """
    from dataclasses import replace

    import scipy.linalg

    from harmose.io.assembly import zeros
    from harmose.io.pyscf.pyscf import molecule, overlap, to_blocks

    def make(seed: int, **changes) -> Sample:
        atoms = water_atoms(seed)
        mol = molecule(atoms, "sto-3g")
        blocks = zeros(atoms, water_basis)
        h = to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), blocks)
        s = overlap(atoms, "sto-3g", water_basis)
        sample = Sample(
            name=f"water-{seed}",
            structure=atoms,
            basis=water_basis,
            hamiltonian=h,
            overlap=s,
            prior=h.with_values(0.5 * h.values),
            spin=Spin.NONE,
            n_electrons=10.0,
            energy=-2000.0 - seed,
            orbital_energies=scipy.linalg.eigh(h.dense(), s.dense(), eigvals_only=True),
            provenance={"code": "pyscf", "group": f"group-{seed // 2}", "kind": "test"},
        )
        return replace(sample, **changes)

    return make


@pytest.fixture(scope="session")
def with_ghost() -> Callable[..., BlockMatrix]:
    """`with_ghost(h, s, energy)`: H of a molecule with an error that gives the smallest eigenvector of S this energy in eV."""

    def make(h: BlockMatrix, s: BlockMatrix, energy: float = -500.0) -> BlockMatrix:
        sizes, vectors = np.linalg.eigh(s.dense())
        v, (_, row, column) = vectors[:, 0], h.indices
        error = (v @ h.dense() @ v - sizes[0] * energy) * np.outer(v, v)
        return h.with_values(h.values - error[row, column])

    return make


@pytest.fixture
def water_store(tmp_path, water_basis, water_sample) -> Path:
    """A store of eight samples, water-0 to water-7, in pairs of one group; splits train (6) and val (2)."""
    path = tmp_path / "water"
    with Store.create(path, water_basis, metadata={"functional": "hf", "basis": "sto-3g"}) as store:
        for seed in range(8):
            store.append(water_sample(seed))
        store.set_splits({"train": [f"water-{k}" for k in range(6)], "val": ["water-6", "water-7"]})
    return path


@pytest.fixture
def untrained_model(tmp_path, water_store) -> Path:
    """The folder of a model whose regression is fitted to `water_store` and whose network has random weights."""
    import torch

    from harmose.inference.card import Card
    from harmose.inference.checkpoint import save
    from harmose.inference.model import Model
    from harmose.nn.two_stage import NetworkSettings, TwoStage
    from harmose.representation.concatenation import TargetSettings
    from harmose.train.fit import fit_to_samples, load_targets

    with Store.open(water_store) as store:
        fit = fit_to_samples(load_targets(store, store.splits["train"], TargetSettings()))
        settings = NetworkSettings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = TwoStage(fit.space, settings)
        card = Card(store.basis, store.spin, settings, fit.space.l_max, settings=store.metadata)
    save(Model(card, fit.normalizer, fit.regression, network, fit.domain), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def random_crystal() -> Callable[[Spin], Sample]:
    """`random_crystal(spin)`: three atoms of two elements, with s, p, d and f shells, and random Hermitian operators.

    The atoms are not sorted by element; S is one matrix for both spins and positive definite.
    """

    from harmose.io.assembly import zeros

    def make(spin: Spin = Spin.NONE) -> Sample:
        structure = Atoms(
            "COC",
            [[0.1, 0.0, 0.0], [1.4, 0.3, -0.2], [0.2, 1.9, 2.2]],
            cell=[[3.4, 0, 0], [0.5, 3.8, 0], [0, 0.1, 4.1]],
            pbc=True,
        )
        shells = {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(2, 1), Shell(3, 2), Shell(4, 3))}
        basis = BasisSet("random", shells, {6: 2.0, 8: 2.5})
        h = _hermitian(zeros(structure, basis, spin), np.random.default_rng(3))
        s = _hermitian(zeros(structure, basis), np.random.default_rng(4))
        _, row, col = s.indices
        diagonal = s.is_onsite & (row == col)
        s = s.with_values(np.where(diagonal, 1.0, 0.002 * s.values))
        return Sample(
            "random",
            structure,
            basis,
            h,
            overlap=s,
            spin=spin,
            n_electrons=14.0,
            fermi_level=-1.25,
            provenance={"code": "none"},
        )

    return make


def _hermitian(operator: BlockMatrix, rng: np.random.Generator) -> BlockMatrix:
    values = rng.normal(size=operator.values.shape)
    if operator.spin is Spin.SPINOR:
        values = values + 1j * rng.normal(size=values.shape)
    for start, end, n in zip(operator.offsets, operator.offsets[1:], operator.orbital_counts):
        block = values[:, start:end].reshape(-1, n, n)
        values[:, start:end] = ((block + operator.spin.adjoint(block)) / 2).reshape(len(values), -1)
    return operator.with_values(values.astype(operator.spin.dtype))
