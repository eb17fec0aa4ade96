"""Other matrices of a `.scfout` file: the density matrix, and the matrix elements of the position."""

from pathlib import Path

import numpy as np

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import pair_vectors
from harmose.errors import FormatError
from harmose.io.assembly import Rules
from harmose.io.openmx.openmx import spinor_components
from harmose.io.openmx.run import OPENMX_BOHR, SPINS, read_run
from harmose.spin import Spin

GRID_ASYMMETRY = 1e-2
"""Largest difference (angstrom) of an element of the position and its adjoint, which OpenMX integrates on its grid in space
to about 1e-4."""


def read_density_matrix(path: str | Path, basis: BasisSet | None = None) -> BlockMatrix:
    """Read the density matrix of a run of OpenMX, with the conventions of `physics.crystal_density`.

    Args:
        path: as in `read_openmx`.
        basis: basis set of the result. Default: that of the run.

    Returns:
        D, without unit, in the blocks of the run's H. Without spin it counts both spins: sum_R Tr(D(R) S(R)^dagger) is the
        number of electrons.

    Raises:
        FormatError: and the other errors of `read_openmx`; for a spinor of OpenMX 3.8 and older, whose file lacks the
            imaginary part.
    """
    run = read_run(path, basis)
    stored, spin = run.stored, SPINS[run.stored.spin]
    if spin is Spin.SPINOR and "iD" not in stored.sections:
        raise FormatError(f"{stored.path}: expected the imaginary part of the density matrix, got a file of OpenMX 3.8 or older "
                          "without it; run OpenMX 3.9")  # fmt: skip
    d = stored.matrix("D")
    if spin is Spin.SPINOR:
        # OpenMX's elements are <c_i^dagger c_j>, the complex conjugates of ours.
        imaginary = stored.matrix("iD")
        values = spinor_components(stored, d[0] - 1j * imaginary[0], d[2] - 1j * d[3], d[1] - 1j * imaginary[1])
    else:
        values = 2 * d if spin is Spin.NONE else d
    rules = Rules(f"{stored.path}: density matrix")
    return run.operator(run.own_basis() if basis is None else basis, values, rules, spin)


def read_position_matrices(
    path: str | Path, basis: BasisSet | None = None
) -> tuple[BlockMatrix, BlockMatrix, BlockMatrix]:
    """Read the matrix elements of the position of a run of OpenMX.

    A block is taken relative to the middle of its two atoms, which makes the operator Hermitian and periodic:

        X[i, j, R] = < a, home cell | x - (x_i + x_j + R) / 2 | b, cell R >

    Add (x_i + x_j + R) / 2 times S[i, j, R] for the position itself.

    Args:
        path: as in `read_openmx`.
        basis: basis set of the result. Default: that of the run.

    Returns:
        Operators of x, y and z in angstrom, of spin none. OpenMX integrates them on its grid, to about 1e-4 angstrom.

    Raises:
        FormatError: and the other errors of `read_openmx`.
    """
    run = read_run(path, basis)
    stored = run.stored
    basis = run.own_basis() if basis is None else basis
    # Of several orders, for each direction, the first is the position; OpenMX counts from the atom of the rows.
    from_rows = stored.matrix("position")
    from_rows = from_rows[:: len(from_rows) // 3] * OPENMX_BOHR
    halves = np.repeat(pair_vectors(run.structure, stored.keys) / 2, stored.shapes.prod(axis=1), axis=0)
    values = from_rows - halves.T * stored.matrix("S")
    x, y, z = (
        run.operator(
            basis,
            component,
            Rules(f"{stored.path}: position {axis}", tolerance=GRID_ASYMMETRY, asymmetry=GRID_ASYMMETRY),
        )
        for axis, component in zip("xyz", values)
    )
    return x, y, z
