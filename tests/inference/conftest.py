"""Models whose regression and network fade: fitted to twenty waters in STO-3G, with random weights."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.inference.card import Card
from harmose.inference.model import Model
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import molecule, to_blocks
from harmose.kernel_regression.fading import Fade
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.concatenation import TargetSettings, block_irreps, compute_targets
from harmose.spin import Spin
from harmose.train.fit import fit_to_samples
from harmose.uncertainty.llpr import fit_last_layer

SETTINGS = NetworkSettings(Stage1Settings(4, 2, 8, 4, 2, 8, 8, 1), Stage2Settings(2, 4, 2, 8, 4, 2, 8, 1, 2))


@pytest.fixture(scope="session")
def faded_model(water_basis, water_sample) -> Callable[..., Model]:
    """`faded_model(needs_prior)`: fades that halve the weights of waters with a bond stretched to 1.2 angstrom."""

    @cache
    def make(needs_prior: bool = False) -> Model:
        target = TargetSettings(prior=needs_prior)
        targets = compute_targets(block_irreps(water_basis), [water_sample(k) for k in range(20)], target)
        fit = fit_to_samples(targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = TwoStage(fit.space, SETTINGS)
            network.calibrate(targets.batch)
            for parameter in network.stage2.heads.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        network = network.eval().requires_grad_(False)
        for fades in (fit.regression.pair_fades, fit.regression.onsite_fades):
            fades.update(dict.fromkeys(fades, Fade(growth=3.0, gain=1e4)))
        last_layer = fit_last_layer(network, [targets.batch])
        last_layer.half[:] = 0.6, 0.3
        settings = {"code": "pyscf", "functional": "hf", "basis": "sto-3g"}
        card = Card(water_basis, Spin.NONE, SETTINGS, fit.space.l_max, needs_prior=needs_prior, settings=settings)
        return Model(card, fit.normalizer, fit.regression, network, fit.domain, last_layer)

    return make


@pytest.fixture(scope="session")
def half_of_h() -> Callable[[Atoms, Model], BlockMatrix]:
    """`half_of_h(atoms, model)`: H0 in eV as in the samples, half of kinetic energy plus nuclear attraction."""

    def prior(atoms: Atoms, model: Model) -> BlockMatrix:
        mol = molecule(atoms, "sto-3g")
        return to_blocks(0.5 * (mol.intor("int1e_kin") + mol.intor("int1e_nuc")), zeros(atoms, model.space.basis))

    return prior


@pytest.fixture(scope="session")
def stretched() -> Callable[[float], Atoms]:
    """`stretched(distance)`: water with one O-H bond of this length in angstrom."""

    def water(distance: float) -> Atoms:
        atoms = Atoms("OHH", np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.471], [0.0, -0.757, -0.471]]))
        atoms.set_distance(0, 1, distance, fix=0)
        return atoms

    return water
