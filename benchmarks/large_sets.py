"""Time and memory of trainings over the number of samples: preparation in parts, and steps from files and from memory.

    python benchmarks/large_sets.py CONFIG STORE --out DIR [--samples 1000 4000 16000] [--steps 200] [--in-memory 1000]

Sets of N samples are made from those of the split `train`: each is used as often as needed, turned at random, under a name
and a group of its own. Each training is a process of its own, with one thread, and its peak of memory is that of the process,
mapped pages included. The training has `--steps` steps of stage 1, whose speed is measured after the first fifth of them.
With `--in-memory N` the set of N samples is also trained with all of it in memory. Writes large_sets.csv into DIR.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.train.prepared_sets import cache_folder, prepared_sets

WHOLE = "1000GB"
"""Memory that any set fits into."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 4000, 16000])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--in-memory", type=int, nargs="*", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for n in options.samples:
        store = options.out / f"{n}.store"
        if not store.exists():
            make(options.store, store, n)
        for memory in [options.memory, *([WHOLE] if n in options.in_memory else [])]:
            rows.append(
                {"samples": n, "memory": memory, **run(options.config, store, options.out, memory, options.steps)}
            )
            print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            with open(options.out / "large_sets.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


def make(source: Path, path: Path, n: int) -> None:
    """Make a store of n samples for training, and those of the split `val`."""
    with Store.open(source) as store, Store.create(path, store.basis, store.spin, store.metadata) as out:
        train, val = store.splits["train"], store.splits["val"]
        names: list[str] = []

        def samples() -> Iterator[Sample]:
            for k in range(n):
                sample = turned(store[train[k % len(train)]], k)
                names.append(sample.name)
                yield sample

        out.extend(samples(), check=False)
        out.extend((store[name] for name in val), check=False)
        out.set_splits({"train": names, "val": val})


def turned(sample: Sample, k: int) -> Sample:
    """Return a sample, turned at random, under a name and a group of its own."""
    rotation = Rotation.random(random_state=k).as_matrix()
    atoms: Atoms = sample.structure.copy()
    atoms.positions = atoms.positions @ rotation.T
    atoms.cell[:] = atoms.cell.array @ rotation.T
    known = (name for name in ("hamiltonian", "overlap", "prior") if getattr(sample, name) is not None)
    turn = {name: getattr(sample, name).rotate(rotation) for name in known}
    group = f"{sample.provenance.get('group', sample.name)}-{k}"
    return replace(
        sample, name=f"{sample.name}-{k}", structure=atoms, provenance={**sample.provenance, "group": group}, **turn
    )


def run(config: Path, store: Path, out: Path, memory: str, steps: int) -> dict[str, float | str]:
    """Train in a process of its own, and return what it took."""
    model = out / f"{store.stem}-{memory}"
    phases = [f"phases.{name}.steps={n}" for name, n in (("stage1", steps), ("stage2", 0), ("joint", 0))]
    settings = [f"data={store}", f"out={model}", f"memory={memory}", "time_limit=100h", "threads=1", "overwrite=true",
                "calibrate=false", "validations=1", "tensorboard=false", *phases]  # fmt: skip
    command = [sys.executable, "-m", "harmose", "train", str(config), *settings]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"training of {store} failed:\n{text}")
    with open(model / "metrics.csv", encoding="utf-8") as file:
        log = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)]
    log = log[len(log) // 5 :]
    rate = (log[-1][0] - log[0][0]) / (log[-1][1] - log[0][1])
    kept = sum(x.n_bytes for x in prepared_sets(cache_folder(store))) if memory != WHOLE else 0
    spent = usage.ru_utime + usage.ru_stime
    return {
        "peak, GB": round(usage.ru_maxrss / 1e6, 2),
        "files, GB": round(kept / 1e9, 2),
        "processor time, s": round(spent),
        "preparation, s": round(spent - steps / rate),
        "steps/s": round(rate, 2),
    }


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
