"""Regressions fitted to water molecules in STO-3G."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule, to_blocks
from harmose.kernel_regression.fit import fit_regression
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training import Training
from harmose.representation.block_irreps import BlockIrreps, to_matrix
from harmose.representation.concatenation import TargetSettings, compute_targets


@pytest.fixture(scope="package")
def make_training(water_basis, water_sample) -> Callable[..., Training]:
    """`make_training(seeds, target, **options)`: waters with these seeds."""

    def make(seeds, target: TargetSettings | None = None, **options) -> Training:
        targets = compute_targets(
            BlockIrreps(water_basis, 2), [water_sample(seed) for seed in seeds], target or TargetSettings()
        )
        whole = targets.concatenated
        parts = (whole.oriented, targets.coefficients, whole.pair_sample, whole.atom_sample)
        return Training(targets.space, *parts, charges=targets.charges, **options)

    return make


@pytest.fixture(scope="package")
def training(make_training) -> Training:
    """Forty waters."""
    return make_training(range(40))


@pytest.fixture(scope="package")
def kernel_regression(training) -> KernelRegression:
    """Kernel regression of forty waters."""
    return fit_regression(training)[0]


@pytest.fixture(scope="package")
def pair_regression(training) -> KernelRegression:
    """Functions of the distance alone, fitted to forty waters."""
    return fit_regression(training, "pairs")[0]


@pytest.fixture(scope="package")
def predict() -> Callable[[KernelRegression, Atoms], BlockMatrix]:
    """`predict(regression, atoms)`: the regression's H in eV."""

    def matrix(regression: KernelRegression, atoms: Atoms) -> BlockMatrix:
        graph = build_graph(atoms, regression.space.basis)
        oriented = regression.space.orient(graph)
        return to_matrix(regression.space, regression.values(oriented), graph, oriented)

    return matrix


@pytest.fixture(scope="package")
def hamiltonian(water_basis) -> Callable[[Atoms], BlockMatrix]:
    """`hamiltonian(atoms)`: H in eV of a structure of H and O, as in the samples of the training set."""

    def matrix(atoms: Atoms) -> BlockMatrix:
        mol = molecule(atoms, "sto-3g")
        return to_blocks(mol.intor("int1e_kin") + mol.intor("int1e_nuc"), zeros(atoms, water_basis))

    return matrix


@pytest.fixture(scope="package")
def stretched() -> Callable[[float], Atoms]:
    """`stretched(distance)`: water with one O-H bond of this length in angstrom."""

    def water(distance: float) -> Atoms:
        atoms = Atoms("OHH", [[0.0, 0.0, 0.117], [0.0, 0.757, -0.471], [0.0, -0.757, -0.471]])
        atoms.set_distance(0, 1, distance, fix=0)
        return atoms

    return water


@pytest.fixture(scope="package")
def neighbourhoods(water_basis) -> Callable[..., Neighbourhoods]:
    """`neighbourhoods(atoms, **options)`: of a structure of H and O."""

    def make(atoms: Atoms, **options) -> Neighbourhoods:
        space = BlockIrreps(water_basis, 2)
        return Neighbourhoods(space, space.orient(build_graph(atoms, water_basis)), **options)

    return make


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
