"""One store of small organic molecules out of several, with splits by formula.

    python examples/results/merged_organics.py OUT STORE... --held-out C3H4N2 CO2 ...

Molecules whose formula is held out are the split `test`; of the others, molecule by molecule, 5 % of each store are `val`,
which chooses the weights of a training and calibrates its bounds, and the rest `train`. Stores may differ in how far their
labels were converged.
"""

import argparse
import sys
from dataclasses import replace

import numpy as np

from harmose.core.sample import Sample
from harmose.data.store import Store, new_store
from harmose.errors import FormatError, HarmoseError

DECISIVE = ("code", "functional", "basis", "grid_level", "small_rho_cutoff", "prior")
"""Settings that all stores must share; they become those of the new one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--held-out", nargs="+", required=True, help="formulas, in Hill order")
    parser.add_argument("--val", type=float, default=0.05, help="share of the other molecules")
    options = parser.parse_args()
    try:
        print(merge(options.out, options.stores, set(options.held_out), options.val))
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def merge(out: str, paths: list[str], held_out: set[str], share: float) -> str:
    """Write the store and say what is in it."""
    stores = [Store.open(path) for path in paths]
    settings = [{key: store.metadata[key] for key in DECISIVE if key in store.metadata} for store in stores]
    for path, found in zip(paths, settings, strict=True):
        if found != settings[0]:
            raise FormatError(f"{path}: expected the settings {settings[0]}, got {found}")
    basis = stores[0].basis
    for store in stores[1:]:
        basis = basis.merged(store.basis)
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    groups: dict[str, list[str]] = {}
    first_store: dict[str, int] = {}
    with new_store(out, basis, stores[0].spin, settings[0]) as target:
        for k, store in enumerate(stores):
            for name in store.names():
                sample = with_molecule(store[name])
                target.append(sample)
                if sample.structure.get_chemical_formula("hill") in held_out:
                    splits["test"].append(name)
                else:
                    groups.setdefault(sample.provenance["group"], []).append(name)
                    first_store.setdefault(sample.provenance["group"], k)
        generator = np.random.default_rng(0)
        for k in range(len(stores)):
            drawn = generator.permutation(sorted(group for group, first in first_store.items() if first == k)).tolist()
            for place, group in enumerate(drawn):
                splits["val" if place < round(share * len(drawn)) else "train"] += groups[group]
        target.set_splits(splits)
    return f"{out}: " + ", ".join(f"{len(names)} {split}" for split, names in splits.items())


def with_molecule(sample: Sample) -> Sample:
    """The sample with its molecule's SMILES, with which its name begins, as group: the same in all stores."""
    name = str(sample.provenance.get("name", sample.name))
    return replace(sample, provenance={**sample.provenance, "group": name.split("|")[0].split(" ")[0]})


if __name__ == "__main__":
    sys.exit(main())
