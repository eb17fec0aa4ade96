"""A regression as flat tensors for a checkpoint, and back.

    pair.<type>.linear.<M>                      onsite.<species>.mean                  onsite.<species>.mean_density
    pair.<type>.electronic.<M>                  onsite.<species>.linear.<degree>_<neighbour>
    pair.<type>.expansion.<part>                onsite.<species>.electronic.<degree>
    pair.<type>.n_draws                         onsite.<species>.expansion_<neighbour>.<part>
    pair.<type>.fade                            onsite.<species>.fade
    distance.<type>.<the same>                  onsite.<species>.average
    correction.<number>.<all of these>          onsite.<species>.draws.<linear_<neighbour>, electronic, shift>

The parts of an expansion are those of its sparse points (distance, and count, third, position of the third atoms), n_proper,
exponent, and weights_<M>.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.kernel_regression.descriptors import N_THREE_CENTRE, Triangles
from harmose.kernel_regression.electronic_terms import n_atom_terms, n_pair_terms
from harmose.kernel_regression.expansion import KernelExpansion, SparsePoints
from harmose.kernel_regression.fading import Fade
from harmose.kernel_regression.kernel import ATOM_KERNEL, PAIR_KERNEL, KernelParameters
from harmose.kernel_regression.linear_terms import AtomDraws, AtomRegression, PairRegression
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import N_GAUSSIANS
from harmose.representation.block_irreps import BlockIrreps

COLUMNS = ".columns"
"""Suffix of the numbers of those columns of a matrix that are not all zero, and of all its columns; only these are written."""
CORRECTION = "correction"
"""Prefix of the tensors of corrections."""
MOST_DRAWS = 1000
"""Largest number of draws of a posterior; more would be a mistake."""
Parts = dict[str, np.ndarray]


def to_state(regression: KernelRegression) -> dict[str, Tensor]:
    """Return tensors as small as they are exact; `from_state` is the inverse, up to rounding."""
    out: dict[str, Any] = {}
    tables = (
        ("pair", regression.pairs, regression.pair_fades),
        (
            "distance",
            regression.distances,
            regression.distance_fades,
        ),
    )
    for owner, pairs, fades in tables:
        for pair_type, pair in pairs.items():
            name = f"{owner}.{pair_type}"
            for m, w in pair.linear.items():
                out |= _without_zeros(f"{name}.linear.{m}", w)
            for m, w in pair.electronic.items():
                out |= _without_zeros(f"{name}.electronic.{m}", w.astype(np.float32))
            if pair.kernel_expansion is not None:
                out |= _expansion_state(f"{name}.expansion", pair.kernel_expansion)
            if pair.n_draws:
                out |= {f"{name}.n_draws": np.array([pair.n_draws]), f"{name}.fade": _numbers(fades[pair_type])}
    for species, atom in regression.onsite.items():
        out[f"onsite.{species}.mean"] = atom.mean
        for (degree, n), w in atom.linear.items():
            out |= _without_zeros(f"onsite.{species}.linear.{degree}_{n}", w)
        for degree, w in atom.electronic.items():
            out |= _without_zeros(f"onsite.{species}.electronic.{degree}", w.astype(np.float32))
        for n, expansion in atom.kernel_expansions.items():
            out |= _expansion_state(f"onsite.{species}.expansion_{n}", expansion)
        if atom.draws is not None and atom.average is not None:
            draws = {f"linear_{n}": w for n, w in atom.draws.linear.items()}
            draws |= {"electronic": atom.draws.electronic, "shift": atom.draws.shift}
            out |= {f"onsite.{species}.draws.{k}": w for k, w in draws.items()}
            out[f"onsite.{species}.average"] = atom.average
            out[f"onsite.{species}.fade"] = _numbers(regression.onsite_fades[species])
    out |= {f"onsite.{k}.mean_density": v for k, v in regression.mean_density.items() if k in regression.onsite}
    state = {k: torch.as_tensor(np.ascontiguousarray(v)) for k, v in out.items()}
    for number, correction in enumerate(regression.corrections):
        state |= {f"{CORRECTION}.{number}.{k}": x for k, x in to_state(correction).items()}
    return state


def _numbers(fade: Fade) -> np.ndarray:
    """Return the parameters of a fade, without a cutoff that is infinite, as older versions wrote it."""
    return np.array(fade if np.isfinite(fade.cutoff) else fade[:-1])


def _expansion_state(name: str, expansion: KernelExpansion) -> dict[str, Any]:
    points = expansion.sparse_points
    if points.n_species > np.iinfo(np.uint8).max:
        raise ModelError(f"expected at most 255 elements, got {points.n_species}")
    out: dict[str, Any] = {
        f"{name}.count": np.bincount(points.edge, minlength=len(points.distance)).astype(np.int32),
        f"{name}.third": points.third.astype(np.uint8),
        f"{name}.position": points.position,
        f"{name}.distance": points.distance,
        f"{name}.n_proper": np.array([expansion.n_proper]),
        f"{name}.exponent": np.array([points.parameters.exponent]),
    }
    for m, w in expansion.weights.items():
        out |= _without_zeros(f"{name}.weights_{m}", w)
    return out


def _without_zeros(name: str, matrix: np.ndarray) -> dict[str, np.ndarray]:
    columns = np.flatnonzero(matrix.any(0))
    if len(columns) == matrix.shape[1]:
        return {name: matrix}
    return {name: matrix[:, columns], name + COLUMNS: np.append(columns, matrix.shape[1]).astype(np.int32)}


def _with_zeros(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    out = {name: tensor.numpy() for name, tensor in state.items() if not name.endswith(COLUMNS)}
    for name in [name for name in state if name.endswith(COLUMNS)]:
        *columns, n = state[name].tolist()
        part = out[name.removesuffix(COLUMNS)]
        full = np.zeros((len(part), n))
        full[:, columns] = part
        out[name.removesuffix(COLUMNS)] = full
    return out


def from_state(space: BlockIrreps, state: Mapping[str, Tensor]) -> KernelRegression:
    """Read a regression; `ModelError` unless every tensor has the shape that the irreps and the descriptors demand."""
    own, parts = _without_corrections(state)
    regression, corrections = _from_state(space, own), tuple(_from_state(space, parts[k]) for k in sorted(parts))
    for each in corrections:
        reads_same = each.reads_charges in (False, regression.reads_charges) and not each.distances
        if not (reads_same and {*each.pairs} <= {*regression.pairs} and {*each.onsite} <= {*regression.onsite}):
            raise ModelError(
                "checkpoint: a correction is of other pairs of elements than the regression that it corrects"
            )
    return replace(regression, corrections=corrections) if corrections else regression


def _without_corrections(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """Return the tensors of the regression itself, and those of each correction by its number."""
    own: dict[str, Tensor] = {}
    corrections: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if not name.startswith(f"{CORRECTION}."):
            own[name] = tensor
            continue
        number, _, rest = name.removeprefix(f"{CORRECTION}.").partition(".")
        if not number.isdigit() or rest.startswith(CORRECTION):
            raise ModelError(f"checkpoint: the regression does not belong to the card: a tensor {name}")
        corrections.setdefault(int(number), {})[rest] = tensor
    return own, corrections


def _from_state(space: BlockIrreps, state: Mapping[str, Tensor]) -> KernelRegression:
    table: dict[str, dict[int, Parts]] = {"pair": {}, "distance": {}, "onsite": {}}
    try:
        for name, tensor in _with_zeros(state).items():
            owner, key, part = name.split(".", 2)
            table[owner].setdefault(int(key), {})[part] = tensor
        species = range(len(space.elements))
        if not all(k in species for k in table["onsite"]):
            raise ValueError(f"expected {len(species)} elements, got numbers {sorted(table['onsite'])}")
        reads_charges = any(name.startswith("electronic.") for parts in table["pair"].values() for name in parts)
        return KernelRegression(
            space,
            {k: _pair(space, k, parts, reads_charges) for k, parts in table["pair"].items()},
            {k: _atom(space, k, parts, reads_charges) for k, parts in table["onsite"].items()},
            {k: _mean_density(space, k, parts) for k, parts in table["onsite"].items()} if reads_charges else {},
            {k: _pair(space, k, parts, False) for k, parts in table["distance"].items()},
            pair_fades=_fades(table["pair"]),
            distance_fades=_fades(table["distance"]),
            onsite_fades=_fades(table["onsite"]),
        )
    except KeyError as error:
        raise ModelError(f"checkpoint: the regression does not belong to the card: no tensor {error}") from None
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(f"checkpoint: the regression does not belong to the card: {error}") from None


def _pair(space: BlockIrreps, pair_type: int, parts: Parts, reads_charges: bool) -> PairRegression:
    low, high = divmod(pair_type, len(space.elements))
    if not 0 <= low <= high:
        raise ValueError(f"a pair type {pair_type} that does not exist")
    layout = space.pair_layout(space.group(low, high))
    orders, k = range(layout.degree.max() + 1), layout.n_irreps
    n_three_centre = len(parts["linear.0"]) - N_GAUSSIANS
    n_draws = _n_draws(parts)
    k += n_draws
    _check(n_three_centre in (0, len(space.elements) * N_THREE_CENTRE), f"{n_three_centre} three-centre terms")
    linear = {m: parts[f"linear.{m}"] for m in orders}
    electronic = {m: parts[f"electronic.{m}"] for m in orders} if reads_charges else {}
    for m in orders:
        _check_shape(f"linear.{m}", linear[m], (n_three_centre + (0 if m else N_GAUSSIANS), k))
        if reads_charges:
            _check_shape(f"electronic.{m}", electronic[m], (n_pair_terms(space, low, high, m), k))
    expansion = None
    if any(name.startswith("expansion.") for name in parts):
        expansion = _expansion(space, PAIR_KERNEL, parts, "expansion.", len(orders), k, n_draws + layout.n_proper)
    return PairRegression(linear, expansion, electronic, n_draws)


def _n_draws(parts: Parts) -> int:
    n = int(parts["n_draws"][0]) if "n_draws" in parts else 0
    _check(0 <= n <= MOST_DRAWS, f"{n} draws")
    return n


def _fades(regressions: Mapping[int, Parts]) -> dict[int, Fade]:
    """Read how those regressions fade that have draws of their posterior."""
    out = {}
    for key, parts in regressions.items():
        if "n_draws" in parts or "draws.shift" in parts:
            numbers = parts["fade"].tolist()
            _check(len(Fade._fields) - len(numbers) in (0, 1), f"a fade of {len(numbers)} numbers")
            fade = out[key] = Fade(*numbers)
            valid = min(numbers) >= 0 and min(fade.gain, fade.limit, fade.cutoff) > 0 and max(numbers) < np.inf
            _check(valid, f"a fade {fade}")
    return out


def _atom(space: BlockIrreps, species: int, parts: Parts, reads_charges: bool) -> AtomRegression:
    layout = space.onsite_layout(int(space.shell_type[species]))
    _check_shape("mean", parts["mean"], (layout.n_proper,))
    linear, electronic, expansions = {}, {}, {}
    n_orders, n_columns = max(x.degree for x in layout.irreps) + 1, sum(len(x.columns) for x in layout.irreps)
    n_proper = sum(len(x.columns) for x in layout.irreps if x.parity > 0)
    draws = _draws(space, species, parts, reads_charges)
    n_draws = 0 if draws is None else len(draws.shift)
    n_columns, n_proper = n_columns + n_draws, n_proper + n_draws
    for name, x in parts.items():
        part, _, key = name.partition(".")
        if part == "linear":
            degree, neighbour = map(int, key.split("_"))
            _check(degree < n_orders and neighbour < len(space.elements), f"a tensor {name}")
            _check_shape(name, x, (N_GAUSSIANS, layout.n_proper))
            linear[degree, neighbour] = x
        elif part == "electronic":
            _check(int(key) < n_orders and reads_charges, f"a tensor {name}")
            _check_shape(name, x, (n_atom_terms(space, species, int(key)), layout.n_proper))
            electronic[int(key)] = x
        elif part.startswith("expansion_") and (neighbour := int(part.removeprefix("expansion_"))) not in expansions:
            _check(neighbour < len(space.elements), f"a tensor {name}")
            expansions[neighbour] = _expansion(space, ATOM_KERNEL, parts, f"{part}.", n_orders, n_columns, n_proper)
    _check(len({x.sparse_points.parameters for x in expansions.values()}) < 2, "kernels of several exponents")
    if draws is not None:
        _check_shape("average", parts["average"], (layout.n_proper,))
    return AtomRegression(parts["mean"], linear, expansions, electronic, draws, parts.get("average"))


def _draws(space: BlockIrreps, species: int, parts: Parts, reads_charges: bool) -> AtomDraws | None:
    if "draws.shift" not in parts:
        return None
    tensors = {name.removeprefix("draws."): x for name, x in parts.items() if name.startswith("draws.")}
    shift, electronic = tensors.pop("shift"), tensors.pop("electronic")
    _check(shift.ndim == 1 and 0 < len(shift) <= MOST_DRAWS, f"draws of shape {shift.shape}")
    n_terms = n_atom_terms(space, species, 0) if reads_charges else 0
    _check_shape("draws.electronic", electronic, (n_terms, len(shift)))
    linear = {int(name.removeprefix("linear_")): x for name, x in tensors.items()}
    for neighbour, x in linear.items():
        _check(0 <= neighbour < len(space.elements), f"draws of an element {neighbour}")
        _check_shape("draws.linear", x, (N_GAUSSIANS, len(shift)))
    return AtomDraws(linear, electronic, shift)


def _mean_density(space: BlockIrreps, species: int, parts: Parts) -> np.ndarray:
    layout = space.onsite_layout(int(space.shell_type[species]))
    _check_shape("mean_density", parts["mean_density"], (layout.n_proper,))
    return parts["mean_density"]


def _expansion(
    space: BlockIrreps,
    parameters: KernelParameters,
    parts: Parts,
    prefix: str,
    n_orders: int,
    n_columns: int,
    n_proper: int,
) -> KernelExpansion:
    tensors = {name.removeprefix(prefix): _double(x) for name, x in parts.items() if name.startswith(prefix)}
    exponent = int(tensors["exponent"][0]) if "exponent" in tensors else parameters.exponent
    _check(exponent in (1, 2, 4, 8), f"a kernel of exponent {exponent}")
    _check(tensors["n_proper"].tolist() == [n_proper], f"{tensors['n_proper']} proper irreps instead of {n_proper}")
    points = _sparse_points(len(space.elements), replace(parameters, exponent=exponent), tensors)
    weights = {m: tensors[f"weights_{m}"] for m in range(n_orders)}
    for m, w in weights.items():
        _check_shape(f"{prefix}weights_{m}", w, (len(points.distance) * (2 if m else 1), n_columns))
    return KernelExpansion(points, weights, n_proper)


def _double(x: np.ndarray) -> np.ndarray:
    """Numbers that a file holds in single precision, in double."""
    return x.astype(np.float64) if x.dtype == np.float32 else x


def _sparse_points(n_species: int, parameters: KernelParameters, tensors: Parts) -> SparsePoints:
    distance, third = tensors["distance"], tensors["third"].astype(np.int64)
    if "sides" in tensors:  # models older than version 2
        axis = tensors["axis"][:, 0] + 1j * tensors["axis"][:, 1]
        edge, position = tensors["edge"], Triangles(tensors["edge"], third, tensors["sides"], axis).position
    else:
        edge, position = np.repeat(np.arange(len(tensors["count"])), tensors["count"]), tensors["position"]
        _check_shape("count", tensors["count"], distance.shape)
    _check(bool(np.isin(edge, np.arange(len(distance))).all()), "third atoms of edges that do not exist")
    _check(third.max(initial=-1) < n_species, "third atoms of elements that do not exist")
    _check_shape("third", third, (len(edge),))
    _check_shape("position", position, (len(edge), 3))
    return SparsePoints(distance, edge, third, position, n_species, parameters)


def _check(valid: bool, text: str) -> None:
    if not valid:
        raise ValueError(text)


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    _check(array.shape == shape, f"expected {name} of shape {shape}, got {array.shape}")
