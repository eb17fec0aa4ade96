"""A baseline as flat tensors for a checkpoint, and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.kernel_regression.descriptors import Triangles
from harmose.kernel_regression.expansion import KernelExpansion, References
from harmose.kernel_regression.kernel import ATOM_KERNEL, PAIR_KERNEL, KernelParameters
from harmose.kernel_regression.linear_terms import AtomRegression, PairRegression
from harmose.kernel_regression.model import KernelRegression
from harmose.representation.block_irreps import BlockIrreps

COLUMNS = ".columns"
"""Suffix of what says which columns of a matrix are not all zero, and how many it has; only these are written."""


def to_state(regression: KernelRegression) -> dict[str, Tensor]:
    """Tensors named by what they are, as small as they are exact; `from_state` is the inverse, to rounding."""
    out: dict[str, Any] = {}
    for pair_type, pair in regression.pairs.items():
        for m, w in pair.linear.items():
            out |= _matrix(f"pair.{pair_type}.linear.{m}", w)
        for m, w in pair.electronic.items():
            out |= _matrix(f"pair.{pair_type}.electronic.{m}", w.astype(np.float32))
        if pair.many_body is not None:
            out |= _field_state(f"pair.{pair_type}.field", pair.many_body)
    for species, atom in regression.onsite.items():
        out[f"onsite.{species}.mean"] = atom.mean
        for (degree, n), w in atom.linear.items():
            out |= _matrix(f"onsite.{species}.linear.{degree}_{n}", w)
        for degree, w in atom.electronic.items():
            out |= _matrix(f"onsite.{species}.electronic.{degree}", w.astype(np.float32))
        for n, field in atom.many_body.items():
            out |= _field_state(f"onsite.{species}.field_{n}", field)
    out |= {f"onsite.{k}.mean_density": v for k, v in regression.mean_density.items()}
    return {k: torch.as_tensor(np.ascontiguousarray(v)) for k, v in out.items()}


def _matrix(name: str, full: np.ndarray) -> dict[str, np.ndarray]:
    columns = np.flatnonzero(full.any(0))
    if len(columns) == full.shape[1]:
        return {name: full}
    return {name: full[:, columns], name + COLUMNS: np.append(columns, full.shape[1]).astype(np.int32)}


def _full(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """All tensors, with the columns that were left out."""
    out = {name: tensor.numpy() for name, tensor in state.items() if not name.endswith(COLUMNS)}
    for name in [name for name in state if name.endswith(COLUMNS)]:
        *columns, n = state[name].tolist()
        part = out[name.removesuffix(COLUMNS)]
        full = np.zeros((len(part), n))
        full[:, columns] = part
        out[name.removesuffix(COLUMNS)] = full
    return out


def _field_state(name: str, field: KernelExpansion) -> dict[str, Any]:
    known = field.references
    if known.n_species > np.iinfo(np.uint8).max:
        raise ModelError(f"expected at most 255 elements, got {known.n_species}")
    out: dict[str, Any] = {
        f"{name}.count": np.bincount(known.edge, minlength=len(known.distance)).astype(np.int32),
        f"{name}.third": known.third.astype(np.uint8),
        f"{name}.position": known.position,
        f"{name}.distance": known.distance,
        f"{name}.n_proper": np.array([field.n_proper]),
        f"{name}.power": np.array([known.likeness.power]),
    }
    for m, w in field.weights.items():
        out |= _matrix(f"{name}.weights_{m}", w)
    return out


def from_state(space: BlockIrreps, state: Mapping[str, Tensor]) -> KernelRegression:
    """`ModelError` for tensors that are not all of a baseline of this space, or do not fit together."""
    table: dict[str, dict[int, dict[str, dict[str, np.ndarray]]]] = {"pair": {}, "onsite": {}}
    try:
        for name, tensor in _full(state).items():
            owner, key, part, *rest = name.split(".")
            table[owner].setdefault(int(key), {}).setdefault(part, {})[rest[0] if rest else ""] = tensor
        n = len(space.elements)
        return KernelRegression(
            space,
            {k: _pair(n, parts) for k, parts in table["pair"].items()},
            {k: _atom(n, parts) for k, parts in table["onsite"].items()},
            {k: parts["mean_density"][""] for k, parts in table["onsite"].items() if "mean_density" in parts},
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"checkpoint: the baseline is not complete ({error})") from None


def _pair(n_species: int, parts: dict[str, dict[str, np.ndarray]]) -> PairRegression:
    field = _field(n_species, PAIR_KERNEL, parts["field"]) if "field" in parts else None
    return PairRegression(_by_number(parts["linear"]), field, _by_number(parts.get("electronic", {})))


def _atom(n_species: int, parts: dict[str, dict[str, np.ndarray]]) -> AtomRegression:
    linear = {}
    for name, weights in parts.get("linear", {}).items():
        degree, neighbour = map(int, name.split("_"))
        linear[degree, neighbour] = weights
    fields = {
        int(p.removeprefix("field_")): _field(n_species, ATOM_KERNEL, x)
        for p, x in parts.items()
        if p.startswith("field_")
    }
    return AtomRegression(parts["mean"][""], linear, fields, _by_number(parts.get("electronic", {})))


def _by_number(parts: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
    return {m: parts[str(m)] for m in sorted(map(int, parts))}


def _field(n_species: int, likeness: KernelParameters, tensors: dict[str, np.ndarray]) -> KernelExpansion:
    power = int(tensors["power"][0]) if "power" in tensors else likeness.power
    if power not in (1, 2, 4, 8):
        raise ValueError(f"the power {power} of a kernel")
    references = _references(n_species, replace(likeness, power=power), tensors)
    weights = {m: tensors[f"weights_{m}"] for m in range(sum(k.startswith("weights_") for k in tensors))}
    return KernelExpansion(references, weights, int(tensors["n_proper"][0]))


def _references(n_species: int, likeness: KernelParameters, tensors: dict[str, np.ndarray]) -> References:
    distance = tensors["distance"]
    if "sides" in tensors:  # as written before positions were
        edge, axis, sides = tensors["edge"], tensors["axis"], tensors["sides"]
        if len(edge) and not (edge.min() >= 0 and edge.max() < len(distance)):
            raise ValueError("a triangle of an edge that is not there")
        triangles = Triangles(edge, tensors["third"], sides, axis[:, 0] + 1j * axis[:, 1])
        return References.of(triangles, distance, n_species, likeness)
    count, third, position = tensors["count"], tensors["third"], tensors["position"]
    if len(count) != len(distance) or count.sum() != len(position) or len(third) != len(position):
        raise ValueError("triangles of edges that are not there")
    edge = np.repeat(np.arange(len(count)), count)
    return References(distance, edge, third.astype(np.int64), position, n_species, likeness)
