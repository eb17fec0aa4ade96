"""Tuned numbers of the solvers for large cells, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SparseSettings:
    """Limits, sizes and tolerances; energies in eV. Results do not depend on the sizes, but time and memory do."""

    # states near a level (`shift_invert`)
    diagonalize_below: int = 400
    """Matrices with fewer rows are diagonalized as a whole."""
    sigma_step: float = 1e-3
    """Distance by which sigma moves where H - sigma S has no inverse."""
    sigma_clearance: float = 1e-7
    """Least distance of sigma from an eigenvalue: a nearer one takes digits from all others."""
    max_residual: float = 1e-6
    """Largest |H c - e S c| / |S c| of a state; the error of its energy is far smaller."""
    lanczos_tolerance: float = 1e-9
    """Relative error of 1 / (e - sigma) at which Lanczos stops."""

    # the Fermi level from states near it (`inertia_fermi`)
    first_states: int = 24
    """Number of states at each k-point at first."""
    full_after: float = 25.0
    """Distance from the Fermi level, in widths of Fermi-Dirac, beyond which states are full or empty to 1e-11."""
    max_moves: int = 30
    """Number of times that the search may move or widen."""

    # factors by nested dissection (`nested_dissection`)
    leaf_rows: int = 500
    """Sets of fewer rows are not halved."""
    pivot_rows: int = 512
    """Rows of a diagonal block within which pivots are exchanged."""
    strip_columns: int = 2048
    """Columns of a product at once: of a Hermitian matrix little more than the lower triangle is computed."""
    single_above: int = 40_000
    """Matrices of more rows have factors in single precision: half the memory and time."""
    memory_bytes: float = 2e9
    """Larger factors are kept in a temporary file."""
    max_refinements: int = 40
    """Steps of iterative refinement after which a matrix counts as singular."""
    refined: float = 1e-11
    """|b - A x| / |b| at which refinement ends."""
    refined_enough: float = 1e-6
    """|b - A x| / |b| that is accepted where rounding allows no smaller one: the states' residuals are checked besides."""

    # kernel polynomials (`kpm`, `resolvent`, `row_blocks`)
    cluster_atoms: int = 16
    """Largest number of atoms in a cluster, whose rows are one dense panel."""
    neighbour_overlap: float = 1e-3
    """Clusters with larger overlaps are neighbours in the sparse approximate inverse."""
    least_overlap: float = 1e-7
    """Smaller overlaps are left out."""
    lanczos_steps: int = 30
    """Lanczos steps for the two ends of a spectrum."""
    least_shift: float = 5.0
    """Least distance of -c from the spectrum."""
    sample_orbitals: int = 1500
    """Orbitals of the piece whose eigenvalues are a first guess of the spectrum's lower end and of the Fermi level."""


DEFAULT = SparseSettings()
