"""Out-of-domain score of an atom: its Mahalanobis distance from the environments of the training set.

    c[b, n, l, m] = sum over neighbours j of species b of  g_n(r_ij) f(r_ij) Y(l, m)(r_ij)        x = |c|  over m

with Gaussians g_n of the distance that decay with it; the signed sum at l = 0. The score is the length of `x - mean` in units
of the training set's standard deviation along each principal axis (Mahalanobis, 1936; with a floor), divided by the largest
length of a training atom whose sample was left out of the statistics. Scores up to 1 are usual; above `OOD_LIMIT` an atom is
outside the training domain, and so it is where distances to its neighbours are unlike all of the training set (`contacts`).
The score measures environments, not errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from harmose.core.grouping import rows_by_key
from harmose.errors import ModelError
from harmose.kernel_regression.contacts import ContactLengths, fit_contact_lengths
from harmose.kernel_regression.neighbourhoods import OOD_DEGREES, Neighbourhoods
from harmose.representation.block_irreps import BlockIrreps

OOD_LIMIT = 2.0
"""Score above which an atom is outside the training domain."""
GAUSSIAN_SPACING = 0.5
"""Distance between the Gaussians, and their width, in angstrom."""
N_CENTRES = 20
"""Number of the Gaussians."""
DECAY_LENGTH = 3.0
"""Length in angstrom over which the weight of a neighbour falls by a factor of e."""
FLOOR = 1e-3
"""Floor under the variances, relative to the largest one."""
NO_VARIANCE = 0.02
"""Axes whose variance is below this fraction of the floor count as constant."""
FOLDS = 5
"""The largest distance of a left-out atom is that over so many folds of the samples."""
CONTACTS = "contacts"
"""Name of the lengths of contacts in a checkpoint."""
FURTHER = "further"
"""Prefix of the statistics of further domains in a checkpoint."""


@dataclass(frozen=True)
class SpeciesDomain:
    """Statistics of the environments of one species in the training set.

    Attributes:
        mean: mean descriptor (F,).
        whiten: whitening matrix (F, r) of the axes that vary; float32, since it dominates the size of small models.
        scale: (1,), distance of the most unusual training atom when its sample is left out.
        floor: (1,), variance assumed along all other axes; infinite where `whiten` holds all axes.
    """

    mean: np.ndarray
    whiten: np.ndarray
    scale: np.ndarray
    floor: np.ndarray = field(default_factory=lambda: np.full(1, np.inf))

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return the scores (N,) of atoms with descriptors (N, F)."""
        return distance_from(x, self.mean, self.whiten, self.floor) / self.scale


@dataclass(frozen=True)
class TrainingDomain:
    """Environments of the atoms of a training set.

    Attributes:
        species: statistics of its environments by species; a species without statistics has score 0.
        contacts: lengths of its contacts; None: not known.
        further: domains of further samples that the model was trained on later. An atom is as far from the training set as
            from the nearest domain.
    """

    species: Mapping[int, SpeciesDomain] = field(default_factory=dict)
    contacts: ContactLengths | None = None
    further: tuple["TrainingDomain", ...] = ()

    def scores(self, graph: Neighbourhoods, atoms: np.ndarray | None = None) -> np.ndarray:
        """Return the out-of-domain scores (N,) of some atoms of a graph, default all."""
        atoms = np.arange(len(graph.oriented.species)) if atoms is None else atoms
        out = np.zeros(len(atoms))
        for species, rows in rows_by_key(graph.oriented.species[atoms]):
            if species in self.species:
                for part in graph.atom_chunks(rows, atoms):
                    known = [self, *(x for x in self.further if species in x.species)]
                    x = descriptors(graph, atoms[part])
                    out[part] = np.min([domain.species[species].scores(x) for domain in known], axis=0)
        return out

    def contact_excess(self, graph: Neighbourhoods, atoms: np.ndarray | None = None) -> np.ndarray:
        """Return how far, in angstrom, the contacts of some atoms (N,) are longer or shorter than those of the training set."""
        atoms = np.arange(len(graph.oriented.species)) if atoms is None else atoms
        return np.zeros(len(atoms)) if self.contacts is None else self.contacts.excess(graph.pairs, atoms)

    def extended(self, other: "TrainingDomain") -> "TrainingDomain":
        """Return this domain, and beside it that of samples on which the model was trained later."""
        contacts = self.contacts
        if contacts is not None and other.contacts is not None:
            contacts = contacts.joined(other.contacts)
        return TrainingDomain(self.species, contacts, (*self.further, replace(other, contacts=None)))


def descriptors(graph: Neighbourhoods, atoms: np.ndarray) -> np.ndarray:
    """Return the x (N, F) of this module's equation for atoms (N,)."""
    edges = graph.atom_edges(atoms).by_species()
    distance, centres = edges.distance, 0.5 + GAUSSIAN_SPACING * np.arange(N_CENTRES)
    cutoff = (1 + np.cos(np.pi * distance / graph.reach[edges.edges])) / 2 * np.exp(-distance / DECAY_LENGTH)
    radial = np.exp(-(((distance[:, None] - centres) / GAUSSIAN_SPACING) ** 2) / 2) * cutoff[:, None]
    angular = graph.axes(edges.edges)[:, : OOD_DEGREES**2]
    density = edges.sum(angular[:, :, None] * radial[:, None])  # (atoms and species, l m, n)
    first = np.arange(OOD_DEGREES) ** 2
    norms = np.sqrt(np.add.reduceat(density**2, first, axis=1))
    norms[:, 0] = density[:, 0]
    by_species = norms.reshape(len(atoms), graph.n_species, OOD_DEGREES, -1)
    return by_species.swapaxes(1, 2).reshape(len(atoms), -1)


def fit_training_domain(graph: Neighbourhoods, atom_sample: np.ndarray) -> TrainingDomain:
    """Fit statistics and lengths to the atoms of a training set; `atom_sample` (N,) says which sample each belongs to."""
    fitted = {}
    for species, atoms in rows_by_key(graph.oriented.species):
        statistics = fit_species_domain(descriptors(graph, atoms), atom_sample[atoms])
        if statistics is not None:
            fitted[species] = statistics
    several = len(np.unique(atom_sample)) > 1
    return TrainingDomain(fitted, fit_contact_lengths(graph.pairs, atom_sample, graph.n_species) if several else None)


def fit_species_domain(x: np.ndarray, sample: np.ndarray) -> SpeciesDomain | None:
    """Fit the statistics to descriptors (N, F) of atoms of the samples (N,); None for fewer than two samples."""
    names = np.unique(sample)
    if len(names) < 2:
        return None
    fold = np.searchsorted(names, sample) % min(FOLDS, len(names))
    largest = max(float(distance_from(x[fold == k], *_statistics(x[fold != k])).max()) for k in np.unique(fold))
    mean, whiten, floor = _statistics(x)
    return SpeciesDomain(mean, whiten, np.array([max(largest, 1e-9)]), floor)


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = x.mean(0)
    return statistics_of(mean, np.cov(x - mean, rowvar=False, bias=True).reshape(x.shape[1], x.shape[1]))


def statistics_of(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the whitening matrix and the floor of descriptors with this mean (F,) and covariance (F, F)."""
    variance, axes = np.linalg.eigh(covariance)
    floor = max(FLOOR * float(variance.max(initial=0.0)), 1e-12)
    varying = variance > NO_VARIANCE * floor
    whiten = (axes[:, varying] / np.sqrt(variance[varying] + floor)).astype(np.float32)
    return mean, whiten, np.array([floor])


def distance_from(x: np.ndarray, mean: np.ndarray, whiten: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Square root of: sum over axes of component^2 / variance, plus the squared length along no axis / floor."""
    x = x - mean
    squares = (x @ whiten) ** 2
    along = (squares / np.maximum((whiten.astype(np.float64) ** 2).sum(0), 1e-300)).sum(1)
    return np.sqrt(squares.sum(1) + np.maximum((x**2).sum(1) - along, 0) / floor)


def to_state(domain: TrainingDomain) -> dict[str, Tensor]:
    """Return flat tensors for a checkpoint; `from_state` is the inverse."""
    state = {
        f"{species}.{f.name}": torch.as_tensor(np.ascontiguousarray(getattr(statistics, f.name)))
        for species, statistics in domain.species.items()
        for f in fields(SpeciesDomain)
    }
    for number, other in enumerate(domain.further):
        state |= {f"{FURTHER}.{number}.{name}": x for name, x in to_state(other).items()}
    return state if domain.contacts is None else state | {CONTACTS: torch.as_tensor(domain.contacts.ranges)}


def from_state(space: BlockIrreps, state: Mapping[str, Tensor]) -> TrainingDomain:
    """Read a training domain; `ModelError` for tensors that are none, or of other elements."""
    parts: dict[int, dict[str, np.ndarray]] = {}
    further: dict[int, dict[str, Tensor]] = {}
    contacts, n = state.get(CONTACTS), len(space.elements)
    if contacts is not None and contacts.shape != (2, n, n, 2):
        raise ModelError(f"checkpoint: expected lengths of contacts of {n} elements, got shape {tuple(contacts.shape)}")
    try:
        for name, tensor in state.items():
            if name == CONTACTS:
                continue
            if name.startswith(f"{FURTHER}."):
                number, _, rest = name.removeprefix(f"{FURTHER}.").partition(".")
                further.setdefault(int(number), {})[rest] = tensor
                continue
            species, _, part = name.partition(".")
            parts.setdefault(int(species), {})[part] = tensor.numpy()
        domain = TrainingDomain(
            {species: SpeciesDomain(**arrays) for species, arrays in parts.items()},
            None if contacts is None else ContactLengths(contacts.numpy()),
            tuple(from_state(space, further[k]) for k in sorted(further)),
        )
    except (ValueError, TypeError) as error:
        raise ModelError(f"checkpoint: the training domain is not complete ({error})") from None
    for species, x in domain.species.items():
        length = n * OOD_DEGREES * N_CENTRES
        if not (species < n and x.mean.shape == (length,) and x.whiten.shape[:-1] == (length,)):
            raise ModelError("checkpoint: the training domain does not belong to the card: "
                             f"expected descriptors of {length} numbers, got {x.mean.shape}")  # fmt: skip
    return domain
