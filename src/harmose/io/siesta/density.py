"""SIESTA: write the density matrix from which a run starts its SCF (`LABEL.DM`, `DM.UseSaveDM true`), by sisl.

D(R) without units, of both spins together or of up and down, for real harmonics times (-1)^m (docs/conventions.md).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from harmose.core.blocks import BlockMatrix
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.siesta.siesta import SIESTA
from harmose.io.sisl import to_sisl
from harmose.physics.crystal_density import crystal_density
from harmose.physics.kmesh import KMesh
from harmose.physics.occupations import ROOM_TEMPERATURE, Smearing
from harmose.spin import Spin


def write_density(
    path: str | Path, sample: Sample, n_electrons: float, mesh: KMesh, smearing: Smearing = ROOM_TEMPERATURE
) -> None:
    """Write D(R) of `n_electrons` per cell on `mesh` to a `.DM` file, which appears complete or not at all.

    SIESTA fits the cells and elements in the file to its own. `FormatError` for a spinor and without sisl; `MatrixError`
    without S and for electrons that the levels cannot hold.
    """
    if sample.spin is Spin.SPINOR:
        raise FormatError(
            f"sample {sample.name}: expected spin none or collinear for SIESTA's .DM, got a spinor, whose components in "
            "the file have not been tested against SIESTA"
        )
    density = crystal_density(sample.hamiltonian, sample.overlap, n_electrons, mesh, smearing)
    operator = to_sisl(replace(sample, hamiltonian=_with_signs(density), overlap=None))
    import sisl

    matrices = [operator.tocsr(k) for k in range(sample.spin.n_components)]
    matrix = sisl.DensityMatrix.fromsp(operator.geometry, matrices, spin=operator.spin)
    with atomic_path(path) as hidden:
        sisl.io.siesta.dmSileSiesta(hidden, "w").write_density_matrix(matrix)


def _with_signs(density: BlockMatrix) -> BlockMatrix:
    """Return D between SIESTA's orbitals, which have the order of harmose."""
    degrees = [l for z in np.asarray(density.numbers).tolist() for l in density.basis.degrees(z)]
    _, sign = SIESTA.indices(degrees)
    _, row, col = density.indices
    return density.with_values(density.values * sign[row] * sign[col])
