"""sisl: a sample's H and S as a `sisl.Hamiltonian`, for TBtrans, sisl's plots and its writers (SIESTA, Wannier90, ...).

sisl's elements are <i, home cell | H | j, cell R> like ours, its energies eV, its lengths angstrom. Orbitals keep our order and
sign (m = -l..l, no Condon-Shortley sign); they carry n, l, m, zeta and the radius of their element, but no radial function.
A spinor's components are real in sisl: uu, dd, Re ud, Im ud, Im uu, Im dd, Re du, Im du. Without its cell, a molecule gets a box.
"""

from typing import Any

import numpy as np
from ase.data import chemical_symbols
from scipy import sparse

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.io.disassembly import all_elements
from harmose.io.structures import with_cell
from harmose.spin import Spin


def to_sisl(sample: Sample) -> Any:
    """The `sisl.Hamiltonian` of a sample, non-orthogonal where there is S: its `eigh(k)` gives our eigenvalues.

    Raises `FormatError` where sisl is not installed.
    """
    try:
        import sisl
    except ImportError:
        raise FormatError("sisl is not installed; `pip install sisl`") from None
    h = sample.hamiltonian
    reach = np.abs(h.keys[:, 2:]).max(axis=0)
    structure = with_cell(sample.structure)
    geometry = sisl.Geometry(
        structure.positions,
        atoms=_atoms(sisl, sample.basis, structure.numbers),
        lattice=sisl.Lattice(structure.cell.array, nsc=2 * reach + 1),
    )
    matrices = [_supercell(geometry, h, part) for part in _parts(h)]
    overlap = None if sample.overlap is None else _supercell(geometry, sample.overlap, _parts(sample.overlap)[0])
    kind = {Spin.NONE: "unpolarized", Spin.COLLINEAR: "polarized", Spin.SPINOR: "spin-orbit"}[h.spin]
    return sisl.Hamiltonian.fromsp(geometry, matrices, S=overlap, spin=sisl.Spin(kind))


def _parts(operator: BlockMatrix) -> list[np.ndarray]:
    """sisl's real components of all elements, both triangles, each (size,)."""
    *_, values = all_elements(operator)
    if operator.spin is not Spin.SPINOR:
        return [np.real(component) for component in values]
    uu, ud, du, dd = values
    return [uu.real, dd.real, ud.real, ud.imag, uu.imag, dd.imag, du.real, du.imag]


def _supercell(geometry: Any, operator: BlockMatrix, values: np.ndarray) -> sparse.csr_matrix:
    """Rows: orbitals of the home cell; columns: those of all cells, in sisl's order of cells."""
    rows, cols, cells, _ = all_elements(operator)
    different, which = np.unique(cells, axis=0, return_inverse=True)
    index = np.array([geometry.lattice.sc_index(cell) for cell in different])
    n = operator.n_orbitals
    place = (rows, cols + n * index[which.ravel()])
    return sparse.coo_matrix((values, place), shape=(n, n * int(np.prod(geometry.lattice.nsc)))).tocsr()


def _atoms(sisl: Any, basis: BasisSet, numbers: np.ndarray) -> list[Any]:
    kinds = {}
    for z in np.unique(numbers).tolist():
        orbitals = [
            sisl.AtomicOrbital(n=shell.n, l=shell.l, m=m, zeta=shell.zeta, R=basis.radii[z])
            for shell in basis.shells[z]
            for m in range(-shell.l, shell.l + 1)
        ]
        kinds[z] = sisl.Atom(chemical_symbols[z], orbitals=orbitals)
    return [kinds[z] for z in numbers.tolist()]
