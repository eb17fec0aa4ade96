"""A small basis set with s, p and d shells, small molecules, and networks with random weights."""

from importlib import import_module

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.linalg import block_diag

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import build_graph
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.batch import graph_batch
from harmose.representation.block_irreps import BlockIrreps, to_matrix


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


S, P, D = (Shell(1, 0), Shell(2, 1), Shell(3, 2))
BASIS = BasisSet("spd", {1: (S, P), 6: (S, Shell(2, 0), P, D), 8: (S, Shell(2, 0), P, D)}, {1: 6.0, 6: 6.0, 8: 6.0})


@pytest.fixture(scope="session")
def space() -> BlockIrreps:
    return BlockIrreps(BASIS, 4)


@pytest.fixture(scope="session")
def network(space):
    """`network(dtype, **stage2)`: random weights, also in the heads of stage 2, calibrated on methanol."""

    def make(dtype: torch.dtype, **stage2) -> TwoStage:
        torch.manual_seed(3)
        settings = NetworkSettings(
            Stage1Settings(channels=4, pseudo_channels=2, scalars=16, so2_channels=8, pseudoscalars=4, hidden=16),
            Stage2Settings(
                channels=4, pseudo_channels=4, scalars=8, so2_channels=8, pseudoscalars=4, hidden=32, **stage2
            ),
        )
        model = TwoStage(space, settings)
        graph = build_graph(molecule("CH3OH"), BASIS)
        model.calibrate(graph_batch(space, graph, space.orient(graph)))
        for parameter in model.stage2.heads.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return model.to(dtype).eval()

    return make


@pytest.fixture(scope="session")
def predict(space):
    """`predict(model, atoms, stage)`: the network's normalized coefficients, read as if they were eV."""

    def run(model: TwoStage, atoms, stage: str = "full") -> BlockMatrix:
        graph = build_graph(atoms, BASIS)
        oriented = space.orient(graph)
        dtype = next(model.parameters()).dtype
        with torch.no_grad():
            batch = graph_batch(space, graph, oriented, dtype)
            out = model(batch) if stage == "full" else model.stage1(batch).h1
        return to_matrix(space, out, graph, oriented)

    return run


@pytest.fixture(scope="session")
def e3nn_wigner():
    """`e3nn_wigner(l, Q)`: D_l(Q) from e3nn in float64, in our order of components: p is (y, z, x)."""

    def wigner(l: int, rotation: np.ndarray) -> torch.Tensor:
        order = [1, 2, 0]
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # e3nn makes its own constants in the default dtype
        try:
            return o3().Irrep(l, 1).D_from_matrix(torch.as_tensor(rotation[np.ix_(order, order)]))
        finally:
            torch.set_default_dtype(default)

    return wigner


@pytest.fixture(scope="session")
def e3nn_rotation(e3nn_wigner):
    """`e3nn_rotation(atoms, Q)`: D(Q) of all orbitals from e3nn's Wigner matrices."""

    def rotation_of_orbitals(atoms, rotation: np.ndarray) -> np.ndarray:
        d = {l: e3nn_wigner(l, rotation).numpy() for l in range(3)}
        return block_diag(*(d[l] for z in atoms.numbers for l in BASIS.degrees(z)))

    return rotation_of_orbitals
