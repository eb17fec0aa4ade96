"""Write a model whose regression is in single precision, which halves its file, and what that changes on a split of a store.

    python examples/results/single_precision.py MODEL OUT STORE --split val

For models whose error is far above the change: weights of kernels cancel each other, and those of an almost exact
regression (water) need double precision.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import harmose
from harmose.data.store import Store
from harmose.errors import HarmoseError
from harmose.inference.checkpoint import CARD, WEIGHTS, write_tensors
from harmose.units import HARTREE

SHORTENED = (".position", ".distance", ".weights_")
"""Tensors of a kernel expansion that are written in single precision."""
LINEAR = ".linear"
"""Part of the names of weights of linear terms, which are, too."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    try:
        shorten(options.model, options.out)
        mean, largest = changes(options.model, options.out, options.store, options.split)
    except (HarmoseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = (options.out / WEIGHTS).stat().st_size / 1e6
    print(f"{options.out}: {size:.1f} MB; H changes by {mean:.2g} on average, {largest:.2g} at most (micro-Hartree)")
    return 0


def shorten(model: Path, out: Path) -> None:
    """Write the model into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = load_file(model / WEIGHTS)
    for name, tensor in tensors.items():
        of_kernel = ".expansion" in name and any(part in name for part in SHORTENED)
        if (of_kernel or LINEAR in name) and tensor.dtype == torch.float64:
            tensors[name] = tensor.float()
    write_tensors(out / WEIGHTS, tensors)
    shutil.copyfile(model / CARD, out / CARD)


def changes(model: Path, out: Path, path: Path, split: str) -> tuple[float, float]:
    """Mean and largest |dH| in micro-Hartree between the predictions of both for a split of a store."""
    one, other = harmose.load(model), harmose.load(out)
    means, largest = [], 0.0
    with Store.open(path) as store:
        for name in store.splits[split]:
            sample = store[name]
            found = (x.predict_stages([sample.structure], [sample.prior])["full"][0] for x in (one, other))
            change = np.abs(np.subtract(*(h.values for h in found))) / HARTREE * 1e6
            means.append(change.mean())
            largest = max(largest, float(change.max()))
    return float(np.mean(means)), largest


if __name__ == "__main__":
    sys.exit(main())
