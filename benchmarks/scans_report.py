"""Rows of `scans.py`, the table of errors by scan, and the checks: where a stage makes a prediction worse, and is it flagged."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from harmose.errors import FormatError
from harmose.evaluate.style import energy_unit, number
from harmose.units import HARTREE, MEV, MICRO_HARTREE

STAGES = {
    "prior": "H0 alone",
    "pairs": "pairs alone",
    "regression": "regression",
    "stage1": "+ stage 1",
    "full": "+ stage 2",
}
"""Stages, the simplest first, with their titles. The last one is the whole model."""

MEAN_RATIO, WORST_RATIO = 1.1, 2.0
"""Limits of the error of the whole model relative to that of the best simpler stage: on average, and at worst."""
FLOORS = {"uEh": MICRO_HARTREE, "meV": 0.05 * MEV}
"""Differences (eV) that do not count in the checks with a floor."""
LARGEST_ERROR = 0.02 * HARTREE
"""Limit of the error of any structure (eV)."""
LARGEST_ELEMENT = 1e3
"""Limit of any element of a predicted H (eV), unless the label itself has a larger one."""
INSIDE_ERROR = 20 * MICRO_HARTREE
"""Limit of the error of any structure of the scan `grid inside` (eV)."""
BAD = 10.0
"""Structures with an error above so many times the median of the test set should be flagged."""


@dataclass(frozen=True)
class Point:
    """One structure of a scan; energies in eV, infinite where a prediction is not finite.

    Attributes:
        model: name of the model.
        scans: set of scans, such as "water".
        scan, x: name of the scan, and coordinate along it.
        name: name of the structure.
        formula: its chemical formula.
        unit: unit of its errors in tables, "uEh" or "meV".
        status: "predicted"; "refused", "crashed": by the model; "failed in DFT", "no label".
        reason: why it was flagged, or why there is no prediction.
        flagged: True if the model warned that the structure is outside its training domain.
        errors: mean absolute error of H by stage.
        largest: largest absolute element of the predicted H by stage.
        largest_label: the same of the label.
    """

    model: str
    scans: str
    scan: str
    x: float
    name: str
    formula: str
    unit: str
    status: str
    reason: str = ""
    flagged: bool = False
    errors: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    largest_label: float = 0.0

    @property
    def full(self) -> float:
        """Error of the whole model."""
        return self.errors["full"]

    def best(self, without: str = "") -> float:
        """Smallest error of the stages simpler than the whole model, without the stage `without`."""
        return min((e for stage, e in self.errors.items() if stage not in ("full", without)), default=np.inf)


@dataclass(frozen=True)
class Check:
    """One line of the table of checks; `passed` is None where a check does not apply."""

    title: str
    value: str
    limit: str
    passed: bool | None


# Rows ----------------------------------------------------------------------------------------------------------------


def write_points(points: Iterable[Point], path: Path) -> None:
    """Write one JSON object a line, with null for numbers that are not finite."""
    rows = []
    for point in points:
        row = asdict(point)
        for key in ("errors", "largest"):
            row[key] = {stage: x if np.isfinite(x) else None for stage, x in row[key].items()}
        rows.append(json.dumps(row, allow_nan=False) + "\n")
    path.write_text("".join(rows), encoding="utf-8")


def read_points(path: Path) -> list[Point]:
    """Read the rows of `write_points`; `FormatError` for another file."""
    points = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for key in ("errors", "largest"):
                row[key] = {stage: np.inf if x is None else x for stage, x in row[key].items()}
            points.append(Point(**row))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        points = []
    if not points:
        raise FormatError(f"{path}: expected the rows of an earlier run, a JSON object in each line")
    return points


def predicted(points: Iterable[Point]) -> list[Point]:
    """The points that the model predicted."""
    return [p for p in points if p.status == "predicted"]


def stages_of(points: Iterable[Point]) -> dict[str, str]:
    """The stages that all predicted points have, with their titles."""
    own = [set(p.errors) for p in predicted(points)]
    return {stage: title for stage, title in STAGES.items() if own and stage in set.intersection(*own)}


def by_scan(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each scan, in their order."""
    out: dict[str, list[Point]] = {}
    for point in points:
        out.setdefault(point.scan, []).append(point)
    return out


# Tables --------------------------------------------------------------------------------------------------------------


def report(points: Sequence[Point], median: float | None, listed: int | None = None) -> str:
    """Table of errors by scan, checks, and lists of structures, as Markdown.

    Args:
        points: all structures, also those without a prediction.
        median: median error of the model's test set in the unit of the points, or None.
        listed: largest number of unflagged structures that are listed; default: all.
    """
    first, done = points[0], predicted(points)
    parts = [f"# Scans `{first.scans}`: {first.model}\n", error_table(points)]
    if done:
        parts.append(check_table(checks(done, median)))
        parts += [_unflagged(done, median, listed)] if median is not None else []
    return "\n".join([*parts, _not_predicted(points)])


def error_table(points: Sequence[Point]) -> str:
    """Errors by scan: of each stage the mean and the worst."""
    titles, unit = stages_of(points), points[0].unit
    counts = ["points", "flagged", "refused", "no label", "not finite"]
    lines = [
        f"Mean absolute error of H in {energy_unit(unit)[1]}: mean and worst structure of each scan.\n",
        f"| scan | {' | '.join(counts)} | " + " | ".join(f"{title}: mean | worst" for title in titles.values()) + " |",
        "| --- |" + " ---: |" * (len(counts) + 2 * len(titles)),
    ]
    for scan, own in [*by_scan(points).items(), ("**all**", list(points))]:
        done = predicted(own)
        flagged = f"{sum(p.flagged for p in done) / len(done):.0%}" if done else ""
        refused = sum(p.status in ("refused", "crashed") for p in own)
        unlabelled = sum(p.status in ("failed in DFT", "no label") for p in own)
        cells = [scan, str(len(own)), flagged, str(refused), str(unlabelled), str(sum(map(not_finite, done)))]
        for stage in titles:
            errors = [p.errors[stage] for p in done]
            cells += [show(np.mean(errors), unit), show(max(errors), unit)] if errors else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def show(error: float, unit: str) -> str:
    """An error (eV) in its unit."""
    return number(error / energy_unit(unit)[0]) if np.isfinite(error) else "∞"


def not_finite(point: Point) -> bool:
    """True if the prediction of some stage is not finite."""
    return not np.isfinite([*point.errors.values(), *point.largest.values()]).all()


def check_table(found: Sequence[Check]) -> str:
    """The checks as a table."""
    lines = ["| check | value | limit | |", "| --- | ---: | ---: | --- |"]
    words = {True: "passed", False: "**failed**", None: ""}
    lines += [f"| {c.title} | {c.value} | {c.limit} | {words[c.passed]} |" for c in found]
    return "\n".join(lines) + "\n"


def _unflagged(points: Sequence[Point], median: float, listed: int | None) -> str:
    """Names of the structures with large errors that are not flagged, the worst first."""
    missed = sorted((p for p in bad(points, median) if not p.flagged), key=lambda p: -p.full)
    if not missed:
        return ""
    names = ", ".join(f"{p.name} ({show(p.full, p.unit)})" for p in missed[:listed])
    more = f", and {len(missed) - listed} more" if listed is not None and len(missed) > listed else ""
    label = energy_unit(missed[0].unit)[1]
    return f"Not flagged, with errors ({label}) above {BAD:g} times the median of the test set: {names}{more}\n"


def _not_predicted(points: Sequence[Point]) -> str:
    """Structures without an error, by reason."""
    names: dict[str, list[str]] = {}
    for point in points:
        if point.status != "predicted":
            reason = re.sub(r"^\S+, frame \d+: ", "", point.reason)  # of the file that was labelled
            names.setdefault(f"{point.status} ({reason})", []).append(point.name)
    lines = [f"- {why}: {', '.join(who)}" for why, who in names.items()]
    return "\n".join(["Structures without an error:\n", *lines, ""]) if lines else ""


# Checks --------------------------------------------------------------------------------------------------------------


def checks(points: Sequence[Point], median: float | None) -> list[Check]:
    """All checks over the predicted `points`; `median` as in `report`."""
    unit = points[0].unit
    size, label = energy_unit(unit)
    full, best = _column(p.full for p in points), _column(p.best() for p in points)
    elements = [p for p in points if max(p.largest.values()) > max(LARGEST_ELEMENT, p.largest_label)]
    n_infinite = sum(map(not_finite, points))
    scans = by_scan(points)
    mean = float(ratio(full.mean(keepdims=True), best.mean(keepdims=True))[0])
    out = [
        Check("mean error / mean of the best simpler stage of each structure", _ratio(mean), *_limit(mean, MEAN_RATIO))
    ]
    for floor in (0.0, FLOORS[unit]):
        ratios = ratio(full, best, floor)
        title = "worst error / best simpler stage"
        title += f", differences above {floor / size:g} {label} only" if floor else ""
        value = f"{_ratio(ratios.max())} ({int((ratios > WORST_RATIO).sum())} of {len(points)} above the limit)"
        out.append(Check(title, value, *_limit(ratios.max(), WORST_RATIO)))
    worst = max(points, key=lambda p: p.full)
    out += [
        Check(
            "largest error",
            f"{show(worst.full, unit)} {label} ({worst.name})",
            *_energy(worst.full, LARGEST_ERROR, unit),
        ),
        Check(
            "largest element of a predicted H, any stage",
            f"{_ratio(max(max(p.largest.values()) for p in points))} eV ({len(elements)} structures above the limit)",
            f"{LARGEST_ELEMENT:,g} eV, or the label's",
            not elements,
        ),
        Check("structures with a prediction that is not finite", str(n_infinite), "0", not n_infinite),
    ]
    if inside := scans.get("grid inside"):
        most = max(p.full for p in inside)
        out.append(
            Check("grid inside: largest error", f"{show(most, unit)} {label}", *_energy(most, INSIDE_ERROR, unit))
        )
    if around := scans.get("grid around"):
        ratios = ratio(_column(p.full for p in around), _column(p.best(without="prior") for p in around))
        title = "grid around: worst error / best simpler stage but H0 alone"
        out.append(Check(title, _ratio(ratios.max()), *_limit(ratios.max(), WORST_RATIO)))
    return [*out, _flag_check(points, median)]


def bad(points: Iterable[Point], median: float) -> list[Point]:
    """The points whose error is above `BAD` times the median of the test set (in the unit of the points)."""
    return [p for p in points if p.full > BAD * median * energy_unit(p.unit)[0]]


def _flag_check(points: Sequence[Point], median: float | None) -> Check:
    title = f"flagged, of the errors above {BAD:g} times the median of the test set"
    if median is None:
        return Check(title, "give --median", "100%", None)
    large = bad(points, median)
    flagged = sum(p.flagged for p in large)
    share = f"{flagged / len(large):.1%} ({flagged} of {len(large)})" if large else "none so large"
    return Check(title, share, "100%", flagged == len(large))


def ratio(error: np.ndarray, best: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """error / best (n,), at most 1 where they differ by less than `floor`; infinite where the error is not finite."""
    with np.errstate(all="ignore"):
        quotient = np.where(np.isfinite(error), error / np.maximum(best, 1e-30), np.inf)
        return np.where(error - best < floor, np.minimum(quotient, 1.0), quotient)


def _column(x: Iterable[float]) -> np.ndarray:
    return np.fromiter(x, float)


def _ratio(x: float) -> str:
    return number(x) if np.isfinite(x) else "∞"


def _limit(x: float, limit: float) -> tuple[str, bool]:
    return f"{limit:g}", bool(x <= limit)


def _energy(x: float, limit: float, unit: str) -> tuple[str, bool]:
    size, label = energy_unit(unit)
    return f"{limit / size:,.3g} {label}" if limit / size < 1e3 else f"{limit / size:,.0f} {label}", bool(x <= limit)
