"""Limits on the time and the memory of fits and predictions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RegressionSettings:
    """Sizes of fits and of the arrays that are in memory together.

    Those up to `refit_atoms`, and `first_fit_numbers`, change what is fitted. The others change speed and memory; the `refit` ones
    also which rows of very large samples are left out together.

    Attributes:
        sparse_edges: largest number of sparse points of a pair type.
        sparse_components: largest number of sparse points of a species, times 2l + 1 of its largest degree.
        sparse_edges_many_molecules: the same for data sets of many molecules, where environments are less alike.
        sparse_components_many_molecules: the same for data sets of many molecules.
        sparse_edges_in_parts: the same as `sparse_edges` in a fit that goes over the training set part by part (`refit`).
        kernel_elements: largest number of edges times sparse points in a fit in one piece; with more edges, there are fewer
            sparse points.
        sparse_edges_of_atoms: largest number of edges of the sparse points of a species in a fit that goes over the training set
            part by part; `kernel_elements` limits them otherwise.
        sparse_atoms: a species whose limits leave fewer sparse points than this has no kernel.
        pairs: largest number of pairs of a type that are fitted, drawn at random.
        refit_pairs: the same for a fit that goes over the training set part by part (`refit`).
        refit_atoms: largest number of atoms of a species in such a fit.
        kernel_numbers: numbers of kernels in memory; with more, each order is computed when it is needed.
        first_fit_numbers: the same for the samples that such a fit begins with; with more, some pairs and atoms are drawn.
        refit_numbers: numbers of kernels of pairs in such a fit; refit_atom_numbers: of atoms.
        refit_bytes: matrices of such fits that are enough to read the training set for.
        solver_numbers: numbers in the matrices of samples that are left out together.
        feature_numbers: numbers in the descriptors of edges that are processed together.
        kernel_block: edges times sparse points that are processed together; they fit into a processor's cache.
        triangles: triangles that are processed together where there is no C compiler.
        stored_pairs: pairs of a graph whose rotations are kept; those of larger graphs are computed when needed.
        edges_of_atoms: edges of the atoms that are processed together.
    """

    sparse_edges: int = 1200
    sparse_components: int = 2700
    sparse_edges_many_molecules: int = 360
    sparse_components_many_molecules: int = 1800
    sparse_edges_in_parts: int = 2000
    kernel_elements: int = 10**7
    sparse_edges_of_atoms: int = 1500
    sparse_atoms: int = 30
    pairs: int = 20_000
    refit_pairs: int = 100_000
    refit_atoms: int = 30_000
    kernel_numbers: int = 5 * 10**7
    first_fit_numbers: int = 25 * 10**6
    refit_numbers: int = 35 * 10**6
    refit_atom_numbers: int = 15 * 10**6
    refit_bytes: int = 3 * 10**8
    solver_numbers: int = 10**7
    feature_numbers: int = 5 * 10**5
    kernel_block: int = 4_000
    triangles: int = 2_000
    stored_pairs: int = 20_000
    edges_of_atoms: int = 5_000


DEFAULT = RegressionSettings()
