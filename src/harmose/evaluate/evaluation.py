"""`Evaluation`: what a test set says of a model, as plain numbers in eV that go to JSON and come back.

Every number is there twice, for stage 1 alone and for the full model. `METRICS` names the rows of every table, with
their definitions; `docs/metrics.md` has them with their sources.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from harmose.errors import FormatError

VERSION = 1


@dataclass(frozen=True)
class Metric:
    """A row of the table: the field of `StageMetrics`, its title, whether it is in units of energy, its definition."""

    name: str
    title: str
    is_energy: bool
    definition: str


METRICS = (
    Metric("mae", "Hamiltonian MAE", True, "mean over samples of e[s], the mean absolute error of all elements of H"),
    Metric("mae_elements", "… over all elements", True, "mean absolute error over all elements of all samples at once"),
    Metric("mae_challenging_samples", "… challenging samples", True, "mean of e[s] over the 5 % worst samples"),
    Metric("mae_challenging_block", "… challenging block", True, "MAE of the worst type of block"),
    Metric("orbital_energy", "Occupied orbital energies", True, "mean absolute error of the occupied orbital energies"),
    Metric("homo", "HOMO", True, "mean absolute error of the highest occupied orbital's energy"),
    Metric("lumo", "LUMO", True, "mean absolute error of the lowest unoccupied orbital's energy"),
    Metric("gap", "HOMO–LUMO gap", True, "mean absolute error of the gap"),
    Metric("wavefunction", "Wavefunction similarity", False, "mean |cosine| of the occupied orbitals' coefficients"),
    Metric("spin_orbit", "Spin-orbit shifts", True, "mean absolute error of what the coupling adds to occupied levels"),
    Metric(
        "spin_orbit_relative",
        "… relative to their size",
        False,
        "the error of the spin-orbit shifts divided by their mean size",
    ),
    Metric("bands", "Band energies", True, "mean absolute error of bands near the Fermi level, after aligning"),
    Metric(
        "ghost_states", "Ghost states", False, "predicted states that DFT does not have, over all k-points and samples"
    ),
    Metric("rotation_error", "Rotation error", True, "mean |H(Qx) - D(Q) H(x) D(Q)^T| over random rotations Q"),
    Metric("rotation_error_relative", "… relative to mean |H|", False, "the rotation error divided by mean |H|"),
)


@dataclass(frozen=True)
class SampleErrors:
    """One sample: e[s] and the errors of its orbital or band energies in eV; None where they could not be compared."""

    mae: float
    orbital_energy: float | None = None
    homo: float | None = None
    lumo: float | None = None
    gap: float | None = None
    wavefunction: float | None = None
    spin_orbit: float | None = None
    spin_orbit_relative: float | None = None
    bands: float | None = None
    ghost_states: float | None = None
    """A number of states."""


@dataclass(frozen=True)
class EvaluatedSample:
    """The errors of one sample by both stages."""

    name: str
    formula: str
    stage1: SampleErrors
    full: SampleErrors


@dataclass(frozen=True)
class BlockErrors:
    """MAE in eV of one type of block: a pair of shells of a pair of elements, on one atom or between two.

    The heavier element comes first; `(a, b)` and `(b, a)` are one type, since H is Hermitian. `n_elements` counts
    elements of the whole matrix.
    """

    elements: tuple[str, str]
    shells: tuple[str, str]
    onsite: bool
    n_elements: int
    stage1: float
    full: float

    @property
    def label(self) -> str:
        """E.g. "O 2p – H 1s", "O 2p – O 2p on-site"."""
        (a, b), (s, t) = self.elements, self.shells
        return f"{a} {s} – {b} {t}" + (" on-site" if self.onsite else "")


@dataclass(frozen=True)
class StageMetrics:
    """The metrics of one stage: eV, similarities and ratios without unit; None where a metric does not apply."""

    mae: float
    mae_elements: float
    mae_challenging_samples: float
    mae_challenging_block: float
    orbital_energy: float | None = None
    homo: float | None = None
    lumo: float | None = None
    gap: float | None = None
    wavefunction: float | None = None
    spin_orbit: float | None = None
    spin_orbit_relative: float | None = None
    bands: float | None = None
    ghost_states: float | None = None
    rotation_error: float | None = None
    rotation_error_relative: float | None = None


@dataclass(frozen=True)
class Coverage:
    """How often errors stayed within the bounds that predictions state: `level` is the one stated, `shares[quantity]` are
    observed at each of `levels`, `counts[quantity]` blocks or levels were compared; `n_outside` of the `n_samples` were
    outside the training domain."""

    level: float
    levels: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, int]
    n_samples: int
    n_outside: int

    def at_level(self, quantity: str) -> float:
        """The observed share at the stated level, or the next higher that was counted."""
        return next(s for level, s in zip(self.levels, self.shares[quantity]) if level >= self.level - 1e-9)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of stage 1 and of the full model on one test set, with the errors of each type of block and each sample.

    `challenging_samples` and `challenging_block` are those where the reference model is worst: stage 1, or the model of
    another evaluation. `n_elements` counts elements of all matrices.
    """

    n_samples: int
    n_elements: int
    stage1: StageMetrics
    full: StageMetrics
    blocks: tuple[BlockErrors, ...]
    samples: tuple[EvaluatedSample, ...]
    challenging_samples: tuple[str, ...]
    challenging_block: str
    coverage: Coverage | None = None
    """Of the full model's stated bounds; None for a model without."""

    @property
    def has_second_stage(self) -> bool:
        """False where the full model gave the same errors as stage 1 for every sample."""
        return any(sample.stage1 != sample.full for sample in self.samples)

    def reduction(self, metric: str) -> float | None:
        """How much smaller the full model's error is than stage 1's, in per cent; None without both or at no error.

        The error of a similarity is its distance from 1.
        """
        before, after = getattr(self.stage1, metric), getattr(self.full, metric)
        if before is None or after is None:
            return None
        if metric == "wavefunction":
            before, after = 1 - before, 1 - after
        return 100 * (1 - after / before) if before > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; energies in eV. `reduction` (per cent) is written for readers and recomputed when read."""
        reductions = {metric.name: self.reduction(metric.name) for metric in METRICS}
        return {"version": VERSION, "unit": "eV", **_plain(asdict(self)), "reduction": reductions}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; `FormatError` for anything else."""
        try:
            if data["version"] != VERSION:
                raise FormatError(f"evaluation: expected version {VERSION}, got {data['version']!r}")
            return cls(
                n_samples=int(data["n_samples"]),
                n_elements=int(data["n_elements"]),
                stage1=StageMetrics(**_numbers(StageMetrics, data["stage1"])),
                full=StageMetrics(**_numbers(StageMetrics, data["full"])),
                blocks=tuple(_block(block) for block in data["blocks"]),
                samples=tuple(_sample(sample) for sample in data["samples"]),
                challenging_samples=tuple(map(str, data["challenging_samples"])),
                challenging_block=str(data["challenging_block"]),
                coverage=_coverage(data.get("coverage")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"evaluation: expected what Evaluation.to_dict writes, got {error!r}") from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`; `FormatError` for anything else."""
        try:
            return cls.from_dict(json.loads(text))
        except ValueError as error:
            raise FormatError(f"evaluation: expected JSON, got {text[:60]!r} ({error})") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, so that a dictionary equals itself after JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbers(kind: type[SampleErrors] | type[StageMetrics], data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind`; None only where it is the default, which an older file may lack."""
    values = {
        field.name: (data.get(field.name) if field.default is None else data[field.name], field.default)
        for field in fields(kind)
    }
    return {name: None if v is None and default is None else _finite(v) for name, (v, default) in values.items()}


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return float(value)


def _block(data: Mapping[str, Any]) -> BlockErrors:
    (a, b), (s, t) = data["elements"], data["shells"]
    pair = (str(a), str(b)), (str(s), str(t))
    return BlockErrors(
        *pair, bool(data["onsite"]), int(data["n_elements"]), *map(_finite, (data["stage1"], data["full"]))
    )


def _coverage(data: Mapping[str, Any] | None) -> Coverage | None:
    if data is None:
        return None
    levels = tuple(map(_finite, data["levels"]))
    shares = {str(name): tuple(map(_finite, row)) for name, row in data["shares"].items()}
    counts = {name: int(data["counts"][name]) for name in shares}
    if any(len(row) != len(levels) for row in shares.values()):
        raise ValueError("expected a share for each level")
    return Coverage(_finite(data["level"]), levels, shares, counts, int(data["n_samples"]), int(data["n_outside"]))


def _sample(data: Mapping[str, Any]) -> EvaluatedSample:
    stages = (SampleErrors(**_numbers(SampleErrors, data[stage])) for stage in ("stage1", "full"))
    return EvaluatedSample(str(data["name"]), str(data["formula"]), *stages)
