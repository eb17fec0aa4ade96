"""Ethanol with more labels: structures to label, and the store of a learning curve (`docs/results.md`).

    python examples/results/ethanol_frames.py structures ethanol-frames.xyz FOLDER
    harmose label FOLDER/last.xyz LAST; harmose label FOLDER/train.xyz@:517 TRAIN
    python examples/results/molecules_npz.py ethanol.npz PUBLISHED
    python examples/results/ethanol_frames.py merge STORE TRAIN LAST PUBLISHED

The frames are a trajectory. `last.xyz` has its last 100 frames; `train.xyz` all others in a random order (seed 0), so that any
number of the first ones is an even sample. STORE has the splits train (TRAIN), test (LAST), and of PUBLISHED, another trajectory,
val (its `val`) and other (its `train`).
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.io import read, write

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import HarmoseError

LAST = 100
"""Number of frames at the end."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    structures = commands.add_parser("structures")
    structures.add_argument("frames", type=Path)
    structures.add_argument("folder", type=Path)
    merge = commands.add_parser("merge")
    for name in ("store", "train", "last", "published"):
        merge.add_argument(name, type=Path)
    options = parser.parse_args()
    try:
        if options.command == "structures":
            write_structures(options.frames, options.folder)
        else:
            merge_stores(options.store, options.train, options.last, options.published)
    except (HarmoseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_structures(frames: Path, folder: Path) -> None:
    """Write train.xyz and last.xyz."""
    folder.mkdir(parents=True, exist_ok=True)
    atoms = read(frames, ":")
    n = len(atoms) - LAST
    order = np.random.default_rng(0).permutation(n)
    write(folder / "train.xyz", [atoms[k] for k in order], format="extxyz")
    write(folder / "last.xyz", atoms[n:], format="extxyz")


def merge_stores(path: Path, train: Path, last: Path, published: Path) -> None:
    """Write the store."""
    new, end, old = Store(train), Store(last), Store(published)
    with Store.create(path, new.basis, new.spin, new.metadata) as store:
        store.extend_records((name, source.record(name)) for source in (new, end) for name in source.names())
        splits = {"train": new.names(), "test": end.names()}
        for split, own in (("val", "val"), ("other", "train")):
            names = old.splits[own]
            store.extend(renamed(old, names), check=False)
            splits[split] = [f"published-{name}" for name in names]
        store.set_splits(splits)


def renamed(store: Store, names: list[str]) -> Iterator[Sample]:
    """Yield samples under names that say where they are from."""
    return (replace(store[name], name=f"published-{name}") for name in names)


if __name__ == "__main__":
    sys.exit(main())
