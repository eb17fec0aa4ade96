"""Errors over the number of training samples: regression, + stage 1, + stage 2, and the network alone.

    python benchmarks/learning_curve.py CONFIG STORE --out DIR --samples 100 300 1000 [--time 10min] [--seeds 0] [key=value ...]

The first N samples of the split `train`, in a random order (seed 0), molecule by molecule, are learned in three trainings of
equal processor time, which begins after the fit of the regression: stage 1 alone, both stages, and both stages without
regression. With `--widen`, stage 1 alone has as many parameters as both stages. Each model is evaluated on the split `test`
(`--split`). Finished trainings are not repeated. Writes curve.csv, curve.md and curve.png into DIR; errors are in
micro-Hartree for molecules and meV for crystals.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from harmose.data.store import Store
from harmose.evaluate.evaluation import NETWORK_ALONE, STAGES
from harmose.evaluate.style import STAGE_COLOURS, UNIT_LABELS, dress, legend, log_ticks, new_figure, png
from harmose.nn.two_stage import TwoStage
from harmose.representation.concatenation import block_irreps
from harmose.train.config import load_config
from harmose.units import ERROR_UNITS

METRICS = (
    "mae",
    "median",
    "worst",
    "mae_challenging_samples",
    "mae_challenging_block",
    "orbital_energy",
    "gap",
    "wavefunction",
)
ONLY_STAGE1 = ("phases.stage1.share=1", "phases.stage2.share=0", "phases.joint.share=0")
WIDTHS = ("channels", "pseudo_channels", "scalars", "so2_channels", "pseudoscalars", "hidden")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="+", required=True)
    parser.add_argument("--time", default="10min")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--split", default="test")
    parser.add_argument("--widen", action="store_true")
    options, changes = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "store"
    if not store.exists():
        shuffled(options.store, store)
    rows = []
    for n in options.samples:
        for seed in options.seeds:
            rows += list(curve_point(options, store, n, seed, changes))
            write(options.out, rows)


def shuffled(source: Path, path: Path) -> None:
    """Copy a store with the samples of the split `train` in a random order, molecule by molecule."""
    with Store.open(source) as store, Store.create(path, store.basis, store.spin, store.metadata) as out:
        splits = {**store.splits, "train": molecule_by_molecule(store, store.splits["train"])}
        names = (name for split in splits.values() for name in split)
        out.extend_records((name, store.record(name)) for name in names)
        out.set_splits(splits)
        if store.radial is not None:
            out.set_radial(store.radial)


def molecule_by_molecule(store: Store, names: list[str]) -> list[str]:
    """Return the names of samples, with the molecules in a random order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(str(store.provenance(name).get("group", name)), []).append(name)
    order = np.random.default_rng(0).permutation(sorted(groups))
    return [name for group in order.tolist() for name in groups[group]]


def curve_point(
    options: argparse.Namespace, store: Path, n: int, seed: int, changes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all columns for n samples."""
    trainings = {"stage1": [*ONLY_STAGE1], "full": [], NETWORK_ALONE: ["regression=none"]}
    if options.widen:
        trainings["stage1"] += widths(options.config, store, changes)
    for name, own in trainings.items():
        folder = options.out / f"{n}-{name}-{seed}"
        settings = [f"data={store}", f"out={folder}", f"train_samples={n}", f"seed={seed}", f"time_limit={options.time}",
                    f"regression_cache={options.out / 'fits'}", "clock=cpu", "threads=1", "tensorboard=false"]  # fmt: skip
        run("train", str(options.config), *settings, *changes, *own)
        evaluation = folder / "evaluation"
        if not evaluation.exists():
            run(
                "evaluate",
                str(folder),
                str(store),
                "--split",
                options.split,
                "--out",
                str(evaluation),
                "--rotations",
                "0",
            )
        found = json.loads((evaluation / "evaluation.json").read_text())
        unit = "meV" if periodic(store) else "uEh"
        for column in {"stage1": ["regression", "stage1"], "full": ["full"]}.get(name, [NETWORK_ALONE]):
            stage = "full" if column == NETWORK_ALONE else column
            values = {
                **found["stages"][stage],
                "median": np.median([x["errors"][stage]["mae"] for x in found["samples"]]),
            }
            row = {key: in_unit(values[key], unit, key) for key in METRICS}
            yield {"n": n, "seed": seed, "column": column, "unit": unit, **row}


def periodic(store: Path) -> bool:
    """Return True for crystals."""
    with Store.open(store) as opened:
        return bool(opened[opened.names()[0]].structure.pbc.any())


def in_unit(value: float | None, unit: str, key: str) -> float | None:
    """Return an energy in eV in the unit of the table; the wavefunctions' similarity as it is."""
    return value if value is None or key == "wavefunction" else value / ERROR_UNITS[unit]


def widths(config: Path, store: Path, changes: Sequence[str]) -> list[str]:
    """Return widths with which stage 1 has about as many parameters as both stages have."""
    settings = load_config(config, [f"data={store}", "out=unused", *changes])
    with Store.open(store) as opened:
        space = block_irreps(opened.basis, opened.spin)
    goal = sum(p.numel() for p in TwoStage(space, settings.network, settings.inputs).parameters())
    stage1, low, high = asdict(settings.network.stage1), 1.0, 8.0
    for _ in range(12):
        factor = (low * high) ** 0.5
        scaled = {key: max(round(stage1[key] * factor), 1) for key in WIDTHS}
        wide = replace(settings.network, stage1=replace(settings.network.stage1, **scaled))
        n = sum(p.numel() for p in TwoStage(space, wide, settings.inputs).stage1.parameters())
        low, high = (factor, high) if n < goal else (low, factor)
    return [f"network.stage1.{key}={max(round(stage1[key] * low), 1)}" for key in WIDTHS]


def run(*arguments: str) -> None:
    """Run a command of harmose; its output goes to the console."""
    subprocess.run([sys.executable, "-m", "harmose", *arguments], check=True)


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table and the figure of all rows so far."""
    with open(out / "curve.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "curve.md").write_text(table(rows), encoding="utf-8")
    (out / "curve.png").write_bytes(draw(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Return means over seeds as a table: H MAE, its worst sample, and the other metrics."""
    lines = [f"| N | column | {' | '.join(METRICS)} |", f"| --- | --- | {' | '.join('---' for _ in METRICS)} |"]
    for n in sorted({row["n"] for row in rows}):
        for column, title in STAGES.items():
            mine = [row for row in rows if (row["n"], row["column"]) == (n, column)]
            if mine:
                means = [np.mean([row[key] for row in mine]) if mine[0][key] is not None else np.nan for key in METRICS]
                lines.append(f"| {n} | {title} | {' | '.join(f'{x:.4g}' for x in means)} |")
    return "\n".join([*lines, ""])


def draw(rows: list[dict[str, Any]]) -> bytes:
    """Return H MAE over the number of samples, with the range of the seeds, as PNG."""
    figure, unit = new_figure(5.6, 4.0), UNIT_LABELS[rows[0]["unit"]]
    axes = dress(figure.subplots(), "training samples", f"H MAE ({unit})")
    for column, title in STAGES.items():
        mine = [row for row in rows if row["column"] == column]
        n = sorted({row["n"] for row in mine})
        errors = [[row["mae"] for row in mine if row["n"] == k] for k in n]
        axes.plot(n, [np.mean(x) for x in errors], "o-", color=STAGE_COLOURS[column], label=title)
        axes.fill_between(n, [min(x) for x in errors], [max(x) for x in errors], color=STAGE_COLOURS[column], alpha=0.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)
    legend(axes)
    return png(figure)


if __name__ == "__main__":
    main()
