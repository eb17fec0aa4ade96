"""Convert a sample to a `sisl.Hamiltonian`, for TBtrans, sisl's plots and its writers (SIESTA, Wannier90, ...).

sisl's elements are <i, home cell | H | j, cell R> in eV, lengths in angstrom, as in harmose. Orbitals keep the order and
signs of harmose (m = -l..l without the Condon-Shortley sign). They have n, l, m, zeta and the radius of their element, but no
radial function. sisl stores a spinor as real components: uu, dd, Re ud, Im ud, Im uu, Im dd, Re du, Im du. A molecule
without a cell is put into a box.
"""

from typing import Any

import numpy as np
from scipy import sparse

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.core.species import atomic_number_of, symbol_of
from harmose.errors import FormatError
from harmose.io.disassembly import all_elements
from harmose.io.structures import with_cell
from harmose.spin import Spin


def to_sisl(sample: Sample) -> Any:
    """Convert a sample to a `sisl.Hamiltonian`.

    Args:
        sample: sample with H (eV) and, if the basis is not orthogonal, S.

    Returns:
        A `sisl.Hamiltonian` (eV), non-orthogonal if the sample has S. Its `eigh(k)` gives the eigenvalues of harmose.

    Raises:
        FormatError: sisl is not installed.

    Examples:
        >>> import ase.build, harmose
        >>> water = ase.build.molecule("H2O")
        >>> h = harmose.load("water-pbe-def2svp").predict(water)
        >>> s = harmose.overlap(water, h.basis)
        >>> sample = harmose.Sample("water", water, h.basis, h, overlap=s)
        >>> harmose.to_sisl(sample).no
        24
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
        atoms=_atoms(sisl, h),
        lattice=sisl.Lattice(structure.cell.array, nsc=2 * reach + 1),
    )
    matrices = [_supercell(geometry, h, part) for part in _parts(h)]
    overlap = None if sample.overlap is None else _supercell(geometry, sample.overlap, _parts(sample.overlap)[0])
    kind = {Spin.NONE: "unpolarized", Spin.COLLINEAR: "polarized", Spin.SPINOR: "spin-orbit"}[h.spin]
    return sisl.Hamiltonian.fromsp(geometry, matrices, S=overlap, spin=sisl.Spin(kind))


def _parts(operator: BlockMatrix) -> list[np.ndarray]:
    """Return sisl's real components (size,) of all elements."""
    *_, values = all_elements(operator)
    if operator.spin is not Spin.SPINOR:
        return [np.real(component) for component in values]
    uu, ud, du, dd = values
    return [uu.real, dd.real, ud.real, ud.imag, uu.imag, dd.imag, du.real, du.imag]


def _supercell(geometry: Any, operator: BlockMatrix, values: np.ndarray) -> sparse.csr_matrix:
    """Return a matrix of the home cell's orbitals (rows) and the orbitals of all cells, in sisl's order (columns)."""
    rows, cols, cells, _ = all_elements(operator)
    different, which = np.unique(cells, axis=0, return_inverse=True)
    index = np.array([geometry.lattice.sc_index(cell) for cell in different])
    n = operator.n_orbitals
    place = (rows, cols + n * index[which.ravel()])
    return sparse.coo_matrix((values, place), shape=(n, n * int(np.prod(geometry.lattice.nsc)))).tocsr()


def _atoms(sisl: Any, operator: BlockMatrix) -> list[Any]:
    """Return sisl's atoms. Atoms of one element with other orbitals are other species."""
    kinds, basis = {}, operator.basis
    for z in np.unique(operator.numbers).tolist():
        orbitals = [
            sisl.AtomicOrbital(n=shell.n, l=shell.l, m=m, zeta=shell.zeta, R=basis.radii[z])
            for shell in basis.shells[z]
            for m in range(-shell.l, shell.l + 1)
        ]
        tag = symbol_of(z).replace("(", "_").removesuffix(")")  # C_2: a label that other programs take
        kinds[z] = sisl.Atom(atomic_number_of(z), orbitals=orbitals, tag=tag)
    return [kinds[z] for z in np.asarray(operator.numbers).tolist()]
