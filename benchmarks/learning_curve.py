"""How the error of the closed form on molecules never seen falls with their number, with and without the electrons of H0.

    python benchmarks/learning_curve.py STORE [--samples 80 160 320 640] [--out DIR]

The closed form of stage 1 learns H - H0 of growing parts of the split `train`, molecule by molecule in a random order (seed 0), and
is compared on the split `test`. Writes learning_curve.csv and learning_curve.png into DIR and prints the table.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from harmose.data.store import Store
from harmose.evaluate.style import FULL, STAGE1, dress, legend, log_ticks, new_figure, png
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.concatenation import TargetSettings, block_irreps
from harmose.train.dataset import Reference, fit, load_targets
from harmose.units import MICRO_HARTREE

KINDS = {"structure alone": (), "structure and density of H0": ("density",)}
"""What is read, and the operators that this asks for."""


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
        for kind, operators in KINDS.items():
            for n in options.samples:
                rows.append(
                    {"reads": kind, **measured_error(store, train[:n], test, TargetSettings(True, operators=operators))}
                )
                print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    with open(options.out / "learning_curve.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "learning_curve.png").write_bytes(draw(rows))


def molecule_by_molecule(store: Store, names: list[str]) -> list[str]:
    """The samples with molecules in a random order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(str(store.provenance(name).get("group", name)), []).append(name)
    order = np.random.default_rng(0).permutation(sorted(groups))
    return [name for group in order.tolist() for name in groups[group]]


def measured_error(store: Store, train: list[str], test: list[str], target: TargetSettings) -> dict[str, float | int]:
    """Mean and median H MAE in micro-Hartree of the test samples, by formula never seen, and what the fit cost."""
    begin, space = time.process_time(), block_irreps(store.basis, store.spin)
    measured = load_targets(store, train, target)
    regression, _ = fit(space, measured)
    seconds = time.process_time() - begin
    known = {formula(store, name) for name in train}
    new = [name for name in test if formula(store, name) not in known]
    silent = TwoStage(space, NetworkSettings())
    silent.zero_outputs()  # the closed form alone
    with torch.no_grad():
        errors = Reference(store, new, regression, target).errors(lambda graph: silent.stage1(graph).h1)
    mean, median = float(errors.mean()) / MICRO_HARTREE, float(np.median(errors)) / MICRO_HARTREE
    return {"n": len(train), "mean": round(mean, 1), "median": round(median, 1), "seconds": round(seconds, 1)}


def formula(store: Store, name: str) -> str:
    return store[name].structure.get_chemical_formula("hill")


def draw(rows: list[dict]) -> bytes:
    """Mean (lines) and median (dashes) over the number of training samples, as PNG."""
    figure = new_figure(5.6, 4.0)
    axes = dress(figure.subplots(), "training samples", "H MAE of molecules with new formulas (µEh)")
    for kind, colour in zip(KINDS, (STAGE1, FULL), strict=True):
        mine = [row for row in rows if row["reads"] == kind]
        n = [row["n"] for row in mine]
        axes.plot(n, [row["mean"] for row in mine], "o-", color=colour, label=f"{kind}: mean")
        axes.plot(n, [row["median"] for row in mine], "o--", color=colour, alpha=0.6, label=f"{kind}: median")
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)
    legend(axes)
    return png(figure)


if __name__ == "__main__":
    main()
