"""Parts of a training set on disk: graphs and targets of some samples in one file, from which fits of the regression read them.

A set that does not fit into memory is cut into parts of about `PAIRS` pairs. Samples of one group, such as the geometries of one
molecule, are neighbours, so that most groups lie in one part. Numbers are in float64; what the network reads besides the
structure is in float32, as in a batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harmose.core.graph import Graph
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.inference.checkpoint import with_prefix, write_tensors
from harmose.kernel_regression.training import Training
from harmose.representation.batch import GraphBatch, graph_batch
from harmose.representation.block_irreps import BlockIrreps, Coefficients, map_coefficients
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import (
    ConcatenatedGraph,
    SampleTargets,
    TargetSettings,
    compute_targets,
    n_elements,
)

PAIRS = 4000
"""Pairs of a part: a few dozen molecules, or some cells of a crystal."""


class Changed(NamedTuple):
    """Targets of some samples for a training that starts from a model.

    Attributes:
        fitted: what the regression is fitted to, coefficients in eV.
        learned: what the network learns, before predictions of the regression are subtracted.
        weights, std: of the model's own regression, as in `FadedValues`: atoms, and then pairs (B,).
    """

    fitted: Coefficients
    learned: Coefficients
    weights: np.ndarray
    std: np.ndarray


Change = Callable[[SampleTargets], Changed]


@dataclass(frozen=True)
class Part:
    """Samples of a training set, before normalization.

    Attributes:
        space: irreps of the blocks.
        names: names of the samples.
        graph: their graphs as one.
        coefficients: what the regression is fitted to, in eV, float64.
        groups: number of the group of each sample, and of the sample itself (n, 2); a sample and the same one with reversed
            moments have the same number.
        n_elements: number of elements of each sample's matrix (n,).
        charges: charge features, if the target reads them.
        operators: coefficients of operators that the network reads, float32.
        changed: what a training that starts from a model learns.
    """

    space: BlockIrreps
    names: tuple[str, ...]
    graph: ConcatenatedGraph
    coefficients: Coefficients
    groups: np.ndarray
    n_elements: np.ndarray
    charges: ChargeFeatures | None
    operators: Mapping[str, Coefficients]
    changed: Changed | None = None

    @staticmethod
    def of(targets: SampleTargets, groups: np.ndarray, change: Change | None = None) -> "Part":
        """Return samples as a part; `groups` as above."""
        changed, whole = None if change is None else change(targets), targets.concatenated
        return Part(
            targets.space,
            targets.names,
            whole,
            targets.coefficients if changed is None else changed.fitted,
            groups,
            n_elements(whole, targets.target),
            targets.charges,
            targets.batch.operators,
            changed,
        )

    def owners(self, many_molecules: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of what is left out together with each pair (P,) and each atom (N,): groups or samples."""
        owner = self.groups[:, 0 if many_molecules else 1]
        return owner[self.graph.pair_sample], owner[self.graph.atom_sample]

    def training(self, many_molecules: bool, sparse_points: int | None, is_part: bool = True) -> Training:
        """Return the samples for a fit of the regression."""
        about = self.space, self.graph.oriented, self.coefficients
        owners = self.owners(many_molecules)
        return Training(*about, *owners, many_molecules, self.charges, sparse_points, is_part=is_part)

    @property
    def learned(self) -> Coefficients:
        """Targets of the network in eV, before predictions of the regression are subtracted."""
        return self.coefficients if self.changed is None else self.changed.learned

    @cached_property
    def batch(self) -> GraphBatch:
        """The samples for the network."""
        return graph_batch(self.space, self.graph.graph, self.graph.oriented)


def compute_part(
    store: Store,
    names: Sequence[str],
    groups: np.ndarray,
    space: BlockIrreps,
    target: TargetSettings,
    change: Change | None = None,
) -> Part:
    """Read samples of a store and return them as a part; errors as in `compute_targets`."""
    return Part.of(compute_targets(space, [store[name] for name in names], target), groups, change)


def write_part(file: Path, part: Part) -> None:
    """Write a part, whole or not at all; `read_part` is the inverse."""
    graph = part.graph.graph
    counts = [np.bincount(x, minlength=len(part.names)) for x in (part.graph.atom_sample, part.graph.pair_sample)]
    arrays = {
        "numbers": graph.numbers,
        "pairs": graph.pairs,
        "vectors": graph.vectors,
        "n_atoms": counts[0],
        "n_pairs": counts[1],
        "groups": part.groups,
        "n_elements": part.n_elements,
    }
    if graph.moment_signs is not None:
        arrays["moment_signs"] = graph.moment_signs
    tensors = {name: torch.as_tensor(np.ascontiguousarray(x)) for name, x in arrays.items()}
    tensors |= _flat("target", part.coefficients)
    for name, operator in part.operators.items():
        if name != "density":  # it is among the charge features
            tensors |= _flat(f"operator.{name}", operator)
    if (charges := part.charges) is not None:
        tensors |= _flat("density", charges.density) | _flat("prior", charges.prior)
        tensors |= {"charge": torch.as_tensor(charges.charge), "potential": torch.as_tensor(charges.potential)}
    if (changed := part.changed) is not None:
        tensors |= _flat("learned", changed.learned)
        tensors |= {"weights": torch.as_tensor(changed.weights), "std": torch.as_tensor(changed.std)}
    write_tensors(file, tensors, {"names": json.dumps(part.names)})


def read_part(file: Path, space: BlockIrreps) -> Part:
    """Read a part; `FormatError` for a damaged file."""
    try:
        with safe_open(file, "pt") as opened:
            names = tuple(json.loads((opened.metadata() or {})["names"]))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        n_atoms, n_pairs = tensors["n_atoms"].numpy(), tensors["n_pairs"].numpy()
        signs = tensors["moment_signs"].numpy() if "moment_signs" in tensors else None
        numbers, pairs, vectors = (tensors[name].numpy() for name in ("numbers", "pairs", "vectors"))
        graph = Graph(numbers, pairs, vectors, signs)
        number = np.arange(len(names))
        owners = np.repeat(number, n_atoms), np.repeat(number, n_pairs)
        whole = ConcatenatedGraph(graph, space.orient(graph), *owners, len(names))
        names_of = sorted({name.split(".")[1] for name in tensors if name.startswith("operator.")})
        operators = {name: _coefficients(f"operator.{name}", tensors) for name in names_of}
        charges = None
        if "charge" in tensors:
            each = tensors["charge"].numpy(), tensors["potential"].numpy()
            charges = ChargeFeatures(_coefficients("density", tensors), _coefficients("prior", tensors), *each)
            operators["density"] = map_coefficients(lambda x: x.float(), charges.density)
        fitted, changed = _coefficients("target", tensors), None
        if "weights" in tensors:
            each = tensors["weights"].numpy(), tensors["std"].numpy()
            changed = Changed(fitted, _coefficients("learned", tensors), *each)
        return Part(
            space,
            names,
            whole,
            fitted,
            tensors["groups"].numpy(),
            tensors["n_elements"].numpy(),
            charges,
            operators,
            changed,
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise FormatError(
            f"{file}: expected a part of a training set, got a damaged file ({error}): remove its folder"
        ) from None


def _flat(prefix: str, c: Coefficients) -> dict[str, Tensor]:
    pairs = {f"{prefix}.pairs.{a}_{b}": x for (a, b), x in c.pairs.items()}
    return pairs | {f"{prefix}.onsite.{s}": x for s, x in c.onsite.items()}


def _coefficients(prefix: str, tensors: Mapping[str, Tensor]) -> Coefficients:
    pairs, onsite = (with_prefix(tensors, f"{prefix}.{kind}.") for kind in ("pairs", "onsite"))
    groups = {tuple(map(int, name.split("_"))): x for name, x in pairs.items()}
    return Coefficients(dict(sorted(groups.items())), {s: onsite[str(s)] for s in sorted(map(int, onsite))})  # type: ignore[arg-type]
