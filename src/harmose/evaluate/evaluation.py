"""Results of a test set: predictions, their errors, and `Evaluation`, which is written to JSON and read back.

Energies are in eV. `METRICS` lists the rows of every table, `STAGES` its columns; `docs/metrics.md` has definitions and
sources.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import FormatError
from harmose.uncertainty.prediction import Uncertainty

VERSION = 2

NETWORK_ALONE = "network"
"""Name of the stage that holds the predictions of a second model, which has no regression."""

STAGES = {
    "regression": "regression",
    "stage1": "+ stage 1",
    "full": "+ stage 2",
    NETWORK_ALONE: "network alone",
}
"""Names of stages, in the order of a table's columns, with their titles. Each stage includes those before it."""

REFERENCE_STAGE = "stage1"
"""The stage whose worst samples and blocks are the challenging ones, as in the paper."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A labelled sample, and its predicted H in eV by stage (some names of `STAGES`, in their order)."""

    sample: Sample
    stages: Mapping[str, BlockMatrix]
    uncertainty: Uncertainty | None = None
    """Error bounds of `full`; None for a model without calibration."""

    @property
    def full(self) -> BlockMatrix:
        """H of the whole model."""
        return self.stages[last_stage(self.stages)]


@dataclass(frozen=True)
class Metric:
    """A row of the table: a field of `StageMetrics`, its title, if it is an energy, and its definition."""

    name: str
    title: str
    is_energy: bool
    definition: str


METRICS = (
    Metric("mae", "Hamiltonian MAE", True, "mean over samples of e[s], the mean absolute error of all elements of H"),
    Metric("mae_elements", "… over all elements", True, "mean absolute error over all elements of all samples at once"),
    Metric("mae_challenging_samples", "… challenging samples", True, "mean of e[s] over the 5 % worst samples"),
    Metric("worst", "… worst sample", True, "largest e[s]"),
    Metric("mae_challenging_block", "… challenging block", True, "MAE of the worst type of block"),
    Metric("orbital_energy", "Occupied orbital energies", True, "mean absolute error of the occupied orbital energies"),
    Metric("homo", "HOMO", True, "mean absolute error of the highest occupied orbital's energy"),
    Metric("lumo", "LUMO", True, "mean absolute error of the lowest unoccupied orbital's energy"),
    Metric("gap", "HOMO–LUMO gap", True, "mean absolute error of the gap"),
    Metric("wavefunction", "Wavefunction similarity", False, "mean |cosine| of the occupied orbitals' coefficients"),
    Metric(
        "spin_orbit", "Spin-orbit shifts", True, "mean absolute error of the spin-orbit shifts of occupied energies"
    ),
    Metric(
        "spin_orbit_relative",
        "… relative to their size",
        False,
        "the error of the spin-orbit shifts divided by their mean size",
    ),
    Metric("bands", "Band energies", True, "mean absolute error of bands near the Fermi level, after aligning"),
    Metric("band_gap", "Band gap", True, "mean absolute error of the band gap on the path"),
    Metric(
        "splittings", "Spin-orbit splittings", True, "mean absolute error of the spin-orbit splittings of these bands"
    ),
    Metric(
        "splittings_relative",
        "… relative to their size",
        False,
        "the error of the spin-orbit splittings divided by their mean size",
    ),
    Metric(
        "ghost_states", "Ghost states", False, "predicted states that DFT does not have, over all k-points and samples"
    ),
    Metric("rotation_error", "Rotation error", True, "mean |H(Qx) - D(Q) H(x) D(Q)^T| over random rotations Q"),
    Metric("rotation_error_relative", "… relative to mean |H|", False, "the rotation error divided by mean |H|"),
)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Errors of one sample, or their means, in eV; None where a quantity could not be compared."""

    mae: FiniteFloat
    orbital_energy: FiniteFloat | None = None
    homo: FiniteFloat | None = None
    lumo: FiniteFloat | None = None
    gap: FiniteFloat | None = None
    wavefunction: FiniteFloat | None = None
    """Similarity, at most 1."""
    spin_orbit: FiniteFloat | None = None
    spin_orbit_relative: FiniteFloat | None = None
    """No unit."""
    bands: FiniteFloat | None = None
    band_gap: FiniteFloat | None = None
    splittings: FiniteFloat | None = None
    splittings_relative: FiniteFloat | None = None
    """No unit."""
    ghost_states: FiniteFloat | None = None
    """Number of states: a sum over samples, not a mean."""


@dataclass(frozen=True, kw_only=True)
class StageMetrics(Errors):
    """Metrics of one stage over all samples."""

    mae_elements: FiniteFloat
    mae_challenging_samples: FiniteFloat
    mae_challenging_block: FiniteFloat
    worst: FiniteFloat
    rotation_error: FiniteFloat | None = None
    rotation_error_relative: FiniteFloat | None = None


@dataclass(frozen=True)
class EvaluatedSample:
    """Errors of one sample, by stage."""

    name: str
    formula: str
    errors: Mapping[str, Errors]

    @property
    def full(self) -> Errors:
        """Errors of the whole model."""
        return self.errors[last_stage(self.errors)]


@dataclass(frozen=True)
class BlockErrors:
    """MAE in eV, by stage, of one type of block: two shells of two elements, on one atom or between two atoms.

    The heavier element comes first. (a, b) and (b, a) are one type, since H is Hermitian. `n_elements` counts elements
    of the whole matrix.
    """

    elements: tuple[str, str]
    shells: tuple[str, str]
    onsite: bool
    n_elements: int
    mae: Mapping[str, FiniteFloat]

    @property
    def full(self) -> float:
        """MAE of the whole model."""
        return self.mae[last_stage(self.mae)]

    @property
    def label(self) -> str:
        """A name for tables, e.g. "O 2p – H 1s" or "O 2p – O 2p on-site"."""
        (a, b), (s, t) = self.elements, self.shells
        return f"{a} {s} – {b} {t}" + (" on-site" if self.onsite else "")


@dataclass(frozen=True)
class Coverage:
    """Observed shares of errors within the bounds that predictions state.

    `confidence` is the one that predictions state. `shares[quantity]` holds the observed share at each of
    `confidences`, `counts[quantity]` the number of blocks or orbital energies. `n_outside` of the `n_samples` samples
    lie outside the training domain.
    """

    confidence: FiniteFloat
    confidences: tuple[FiniteFloat, ...]
    shares: Mapping[str, tuple[FiniteFloat, ...]]
    counts: Mapping[str, int]
    n_samples: int
    n_outside: int

    def __post_init__(self) -> None:
        if any(len(row) != len(self.confidences) or name not in self.counts for name, row in self.shares.items()):
            raise ValueError("expected a share of each quantity at each confidence, and its count")

    def stated(self, quantity: str) -> float:
        """Observed share at the stated confidence, or at the next higher one that was counted."""
        return next(s for c, s in zip(self.confidences, self.shares[quantity]) if c >= self.confidence - 1e-9)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of each stage on one test set, with the errors of each type of block and of each sample.

    Challenging samples and the challenging block are those where the reference is worst: stage 1, or the whole model of
    another evaluation. `n_elements` counts elements of all matrices.
    """

    n_samples: int
    n_elements: int
    stages: Mapping[str, StageMetrics]
    blocks: tuple[BlockErrors, ...]
    samples: tuple[EvaluatedSample, ...]
    challenging_samples: tuple[str, ...]
    challenging_block: str
    coverage: Coverage | None = None
    """Coverage of the whole model's error bounds; None for a model without calibration."""

    def __post_init__(self) -> None:
        for each in (self.stages, *(s.errors for s in self.samples), *(b.mae for b in self.blocks)):
            if not each or list(each) != list(self.stages) or not set(each) <= set(STAGES):
                raise ValueError(f"expected the same stages everywhere, among {', '.join(STAGES)}, got {list(each)}")

    @property
    def full(self) -> StageMetrics:
        """Metrics of the whole model."""
        return self.stages[last_stage(self.stages)]

    @property
    def titles(self) -> dict[str, str]:
        """Stages to show, with titles. A stage of the model that has the errors of the one before is left out."""
        shown: list[str] = []
        for stage in self.stages:
            new = not shown or stage == NETWORK_ALONE
            if new or any(sample.errors[stage] != sample.errors[shown[-1]] for sample in self.samples):
                shown.append(stage)
        return {stage: STAGES[stage].removeprefix("" if k else "+ ") for k, stage in enumerate(shown)}

    @property
    def compared_stages(self) -> tuple[str, str] | None:
        """The two stages that `reduction` compares: the last of the model and the one before it, if any is shown."""
        own = [stage for stage in self.titles if stage != NETWORK_ALONE]
        return (own[-2], own[-1]) if len(own) > 1 else None

    def reduction(self, metric: str) -> float | None:
        """Reduction of an error by the model's last stage, in per cent; None if there is nothing to compare.

        The error of a similarity is its distance from 1.
        """
        if self.compared_stages is None:
            return None
        before, after = (getattr(self.stages[stage], metric) for stage in self.compared_stages)
        if before is None or after is None:
            return None
        if metric == "wavefunction":
            before, after = 1 - before, 1 - after
        return 100 * (1 - after / before) if before > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values. `reduction` (per cent) is for readers of the file; it is not read back."""
        reductions = {metric.name: self.reduction(metric.name) for metric in METRICS}
        return {"version": VERSION, "unit": "eV", **_SCHEMA.dump_python(self, mode="json"), "reduction": reductions}

    def to_json(self) -> str:
        """Return JSON text; `ValueError` if a number is not finite."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; `FormatError` for anything else."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if version != VERSION:
            raise FormatError(f"evaluation: expected version {VERSION}, got {version!r}")
        try:
            return _SCHEMA.validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise FormatError(
                f"evaluation: expected the content that to_dict returns; {where}: {first['msg']}"
            ) from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`; `FormatError` for anything else."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise FormatError(f"evaluation: expected JSON, got {text[:60]!r} ({error})") from None
        return cls.from_dict(data)


_SCHEMA: TypeAdapter[Any] = TypeAdapter(Evaluation)


def last_stage(stages: Iterable[str]) -> str:
    """Name of the whole model: the last stage that is not the network alone."""
    return [stage for stage in stages if stage != NETWORK_ALONE][-1]
