"""OpenMX: H, S and the density matrix of a run from its `.scfout` file, which `HS.fileout on` makes it write.

OpenMX writes Hartree and Bohr, with its own value of the Bohr radius, and orbitals in its own order without sign
(docs/conventions.md). Elements and shells come from the input, whose text is in the file.
"""

from pathlib import Path

import numpy as np

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.graph import reversed_pairs
from harmose.core.sample import Sample
from harmose.errors import MatrixError
from harmose.io.assembly import hamiltonian_rules, overlap_rules
from harmose.io.openmx.provenance import provenance
from harmose.io.openmx.run import SPINS, Run, read_run
from harmose.io.openmx.scfout import Scfout
from harmose.io.overlaps import Overlap
from harmose.units import HARTREE


def read_openmx(path: str | Path, basis: BasisSet | None = None) -> Sample:
    """Read a run of OpenMX 3.7 to 3.9.

    Args:
        path: folder of the run, its `.scfout` file, or its `.dat` or `.out` file beside that.
        basis: basis set of another run of the same system, with radii that cover this one. Default: the radii at which
            the functions end.

    Returns:
        The sample: H and Fermi level in eV on OpenMX's scale, S, number of electrons. Spin is none, collinear, or spinor
        (non-collinear, with or without spin-orbit coupling). Total energy and convergence are those of the `.out` file, and
        None without it. `provenance["settings"]["pao"]` has the name of each element's basis set, such as `C6.0-s2p2d1`; that of
        a further set of orbitals of an element as `C(2)`.

    Raises:
        FormatError: files are missing, damaged, of another version or another code, atoms were moved after H was computed,
            or a species has no nucleus.
        BasisError: a species has other orbitals than those of `basis`.
        MatrixError: H or S is not Hermitian, or has values outside the reach of `basis`.
        StructureError: the structure is not valid, for example atoms at the same place.
    """
    run = read_run(path, basis)
    basis = run.own_basis() if basis is None else basis
    spin = SPINS[run.stored.spin]
    with np.errstate(all="ignore"):  # numbers of a damaged file, which are refused below as not finite
        values = _hamiltonian(run.stored)
    h = run.operator(basis, values, hamiltonian_rules(f"{run.stored.path}: H"), spin)
    return Sample(
        name=run.stored.path.stem,
        structure=run.structure,
        basis=basis,
        hamiltonian=h,
        overlap=_overlap(run, basis),
        spin=spin,
        n_electrons=round(run.stored.n_electrons, 6),
        fermi_level=run.stored.fermi_level * HARTREE if np.isfinite(run.stored.fermi_level) else None,
        energy=run.log.energy * HARTREE if run.log is not None and run.log.energy is not None else None,
        provenance=provenance(run),
    )


def read_openmx_overlap(path: str | Path, basis: BasisSet | None = None) -> Overlap:
    """Read the overlap of a run, without its H. Arguments and errors as in `read_openmx`."""
    run = read_run(path, basis)
    basis = run.own_basis() if basis is None else basis
    return Overlap(run.stored.path.stem, run.structure, _overlap(run, basis))


def _overlap(run: Run, basis: BasisSet) -> BlockMatrix:
    return run.operator(basis, run.stored.matrix("S"), overlap_rules(f"{run.stored.path}: S"))


def _hamiltonian(stored: Scfout) -> np.ndarray:
    """Return H in eV: (1, size), (2, size) with up and down, or (4, size) with uu, ud, du, dd."""
    h = stored.matrix("H") * HARTREE
    if stored.spin != 3:
        return h
    imaginary = stored.matrix("iH") * HARTREE
    return spinor_components(
        stored, h[0] + 1j * imaginary[0], h[2] + 1j * (h[3] + imaginary[2]), h[1] + 1j * imaginary[1]
    )


def spinor_components(stored: Scfout, uu: np.ndarray, ud: np.ndarray, dd: np.ndarray) -> np.ndarray:
    """Return uu, ud, du, dd (4, size). OpenMX does not write du: it is the adjoint of ud of the reversed block."""
    return np.stack([uu, ud, ud[_transposed(stored)].conj(), dd])


def _transposed(stored: Scfout) -> np.ndarray:
    """Return the place (size,) of the element <b, R | a> of each element <a | b, R>."""
    keys, shapes = stored.keys, stored.shapes
    order, reverse = np.lexsort(keys.T[::-1]), np.lexsort(reversed_pairs(keys).T[::-1])
    if not np.array_equal(keys[order], reversed_pairs(keys)[reverse]):
        raise MatrixError(f"{stored.path}: expected with each block (i, j, R) also (j, i, -R), got blocks without")
    partner = np.empty(len(keys), dtype=np.int64)
    partner[reverse] = order
    sizes = shapes.prod(axis=1)
    starts = np.cumsum(sizes) - sizes
    block = np.repeat(np.arange(len(keys)), sizes)
    row, col = np.divmod(np.arange(len(block)) - starts[block], shapes[block, 1])
    return starts[partner[block]] + col * shapes[block, 0] + row
