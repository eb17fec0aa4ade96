"""Error of the regression on new molecules over the number of training samples, with and without the density of H0.

    python benchmarks/learning_curve.py STORE [--samples 80 160 320 640] [--out DIR]

The regression learns H - H0 from growing parts of the split `train`, molecule by molecule in a random order (seed 0).
It is evaluated on the samples of the split `test` whose formula is not in the training samples. Writes
learning_curve.csv and learning_curve.png into DIR and prints the table.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from harmose.data.store import Store
from harmose.evaluate.style import FULL, STAGE1, dress, legend, log_ticks, new_figure, png
from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import ValidationSet
from harmose.train.fit import fit_to_samples, load_targets
from harmose.units import MICRO_HARTREE

INPUTS = {"structure alone": (), "structure and density of H0": ("density",)}
"""Inputs of the regression, and the operators that they need."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[80, 160, 320, 640])
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with Store.open(options.store) as store:
        train, test = molecule_by_molecule(store, store.splits["train"]), store.splits["test"]
        for inputs, operators in INPUTS.items():
            for n in options.samples:
                errors = regression_error(store, train[:n], test, TargetSettings(True, operators=operators))
                rows.append({"inputs": inputs, **errors})
                print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    with open(options.out / "learning_curve.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "learning_curve.png").write_bytes(draw(rows))


def molecule_by_molecule(store: Store, names: list[str]) -> list[str]:
    """Names of the samples, with the molecules in a random order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(str(store.provenance(name).get("group", name)), []).append(name)
    order = np.random.default_rng(0).permutation(sorted(groups))
    return [name for group in order.tolist() for name in groups[group]]


def regression_error(store: Store, train: list[str], test: list[str], target: TargetSettings) -> dict[str, float | int]:
    """Mean and median H MAE in micro-Hartree of test samples with new formulas, and the processor time of the fit."""
    begin = time.process_time()
    fit = fit_to_samples(load_targets(store, train, target))
    seconds = time.process_time() - begin
    formulas = {formula(store, name) for name in train}
    new = [name for name in test if formula(store, name) not in formulas]
    errors = ValidationSet(store, new, fit, target).errors(lambda batch: None)
    mean, median = float(errors.mean()) / MICRO_HARTREE, float(np.median(errors)) / MICRO_HARTREE
    return {"n": len(train), "mean": round(mean, 1), "median": round(median, 1), "seconds": round(seconds, 1)}


def formula(store: Store, name: str) -> str:
    return store[name].structure.get_chemical_formula("hill")


def draw(rows: list[dict]) -> bytes:
    """Mean (lines) and median (dashes) over the number of training samples, as PNG."""
    figure = new_figure(5.6, 4.0)
    axes = dress(figure.subplots(), "training samples", "H MAE of molecules with new formulas (µEh)")
    for inputs, colour in zip(INPUTS, (STAGE1, FULL), strict=True):
        mine = [row for row in rows if row["inputs"] == inputs]
        n = [row["n"] for row in mine]
        axes.plot(n, [row["mean"] for row in mine], "o-", color=colour, label=f"{inputs}: mean")
        axes.plot(n, [row["median"] for row in mine], "o--", color=colour, alpha=0.6, label=f"{inputs}: median")
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)
    legend(axes)
    return png(figure)


if __name__ == "__main__":
    main()
