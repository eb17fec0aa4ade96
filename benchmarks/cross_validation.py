"""Errors of a configuration on samples that were left out, for sets too small for a test split.

    python benchmarks/cross_validation.py CONFIG STORE OUT [--folds 7] [KEY=VALUE ...]

The samples of the splits train and val are dealt into folds. For each fold a model is trained on all others, but for one sample
of the next fold, which chooses the weights, and evaluated on the fold. OUT gets a store with the fold as its split `test`,
models and evaluations; folds that have an evaluation there are not repeated. Prints mean and worst of all left-out samples.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from harmose.data.store import Store
from harmose.errors import HarmoseError
from harmose.evaluate.evaluation import EvaluatedSample, Evaluation

METRICS = {
    "mae": ("H MAE (meV)", 1e3),
    "bands": ("bands (meV)", 1e3),
    "band_gap": ("band gap (meV)", 1e3),
    "splittings": ("spin-orbit splittings (meV)", 1e3),
    "splittings_relative": ("… in per cent of their mean", 1e2),
    "ghost_states": ("ghost states", 1.0),
}
"""Fields of `Errors`, their titles and factors."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--folds", type=int, default=7)
    options = parser.parse_args()
    try:
        with Store.open(options.store) as store:
            names = [name for split in ("train", "val") for name in store.splits.get(split, [])]
        samples: list[EvaluatedSample] = []
        for k, splits in enumerate(folds(names, options.folds)):
            found = options.out / f"fold{k}" / "evaluation.json"
            if not found.is_file():
                run_fold(options.config, options.store, options.out, k, splits, options.overrides)
            samples += Evaluation.from_json(found.read_text()).samples
        print(table(samples))
    except (HarmoseError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def folds(names: list[str], n: int) -> list[dict[str, list[str]]]:
    """Splits train, val and test of each fold; fold k holds every n-th sample from the k-th on."""
    dealt = [names[k::n] for k in range(n)]
    out = []
    for k, test in enumerate(dealt):
        val = dealt[(k + 1) % n][:1]
        out.append({"train": [name for name in names if name not in (*test, *val)], "val": val, "test": test})
    return out


def run_fold(config: Path, store: Path, out: Path, k: int, splits: dict[str, list[str]], overrides: list[str]) -> None:
    """Train and evaluate one fold into `out`/fold<k>."""
    folder, own = out / f"fold{k}", out / "store"
    shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    if not own.is_dir():
        shutil.copytree(store, own)
    with Store.open(own, writable=True) as opened:
        opened.set_splits(splits)
    command = [sys.executable, "-m", "harmose"]
    subprocess.run([*command, "train", config, f"data={own}", f"out={folder}", *overrides], check=True)
    subprocess.run(
        [*command, "evaluate", folder, own, "--split", "test", "--rotations", "0", "--out", folder], check=True
    )


def table(samples: list[EvaluatedSample]) -> str:
    """Mean and worst of each metric by stage, as Markdown."""
    stages = list(samples[0].errors)
    rows = [f"| {len(samples)} samples | " + " | ".join(stages) + " |", "|" + " --- |" * (len(stages) + 1)]
    for name, (title, factor) in METRICS.items():
        columns = [[getattr(sample.errors[stage], name) for sample in samples] for stage in stages]
        known = [[value for value in column if value is not None] for column in columns]
        if all(known):
            cells = (f"{factor * np.mean(column):.3g}, worst {factor * np.max(column):.3g}" for column in known)
            rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
