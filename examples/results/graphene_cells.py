"""More cells of graphene beside the published ones: to train on and to test, and the store of all of them.

    python examples/results/graphene_cells.py cells FOLDER    # train.xyz, more.xyz, test.xyz, strained.xyz, strained-test.xyz
    for s in train more test strained strained-test; do harmose label FOLDER/$s.xyz $s.store --code cp2k --kmesh 3 3 1 \\
        --cutoff 280 --rel-cutoff 35 --pair-cutoff 8.2 --max-dropped 5e-3; done         # 45 s each
    python examples/results/graphene_cells.py merge STORE graphene.store train.store test.store strained.store \\
        strained-test.store [--more more.store]

3x3 cells of 18 atoms, displaced at random by 0.03 to 0.1 angstrom (train, more; the published ones: to 0.08) and 0.03 to 0.08 (test);
and cells whose lattice vectors are strained by up to 7 % as well: of the split `train`, and of one of their own. The
published cells keep their splits.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from harmose.data.store import Store, new_store
from harmose.errors import HarmoseError

LATTICE, HEIGHT, SEED = 2.46, 12.0, 5
"""Angstrom, of the primitive cell; height as of the published cells, since CP2K's energy zero depends on it; seed."""
STRAIN, N_STRAINED = 0.07, {"strained": 12, "strained-test": 4}
"""Largest element of the symmetric strain in the plane, and numbers of strained cells; they are displaced by 0.05 angstrom."""
N_MORE, MORE_SEED = 110, 17
"""More cells like those of `train`, of displacements drawn at random, and their seed."""
DISPLACEMENTS = {"train": np.linspace(0.03, 0.1, 14), "test": np.linspace(0.03, 0.08, 6)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("cells").add_argument("folder", type=Path)
    merged = kinds.add_parser("merge")
    for name in ("out", "published", "train", "test", "strained", "strained_test"):
        merged.add_argument(name)
    merged.add_argument("--more")
    options = parser.parse_args()
    try:
        if options.kind == "cells":
            options.folder.mkdir(parents=True, exist_ok=True)
            for name, structures in cells().items():
                write(options.folder / f"{name}.xyz", structures, format="extxyz")
                print(f"{options.folder / name}.xyz: {len(structures)} structures")
        else:
            parts = [("train", options.train), ("test", options.test)]
            parts += [("train", options.strained), ("strained", options.strained_test)]
            parts += [("train", options.more)] if options.more else []
            merge(options.out, options.published, parts)
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def cells() -> dict[str, list[Atoms]]:
    """All cells by split, always the same."""
    generator = np.random.default_rng(SEED)
    out = {name: [displaced(size, generator) for size in sizes] for name, sizes in DISPLACEMENTS.items()}
    out |= {name: [strained(generator) for _ in range(n)] for name, n in N_STRAINED.items()}
    generator = np.random.default_rng(MORE_SEED)
    return out | {"more": [displaced(size, generator) for size in generator.uniform(0.03, 0.1, N_MORE)]}


def strained(generator: np.random.Generator) -> Atoms:
    """A displaced cell under a random strain in the plane: along each vector of the plane, and shear."""
    atoms, (xx, yy, xy) = displaced(0.05, generator), generator.uniform(-STRAIN, STRAIN, size=3)
    strain = np.eye(3) + [[xx, xy / 2, 0], [xy / 2, yy, 0], [0, 0, 0]]
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return atoms


def displaced(size: float, generator: np.random.Generator) -> Atoms:
    """A 3x3 cell whose atoms are displaced by a normal distribution of this size (angstrom)."""
    a, b = LATTICE, LATTICE * np.sqrt(3) / 2
    cell = [[a, 0, 0], [-a / 2, b, 0], [0, 0, HEIGHT]]
    positions = [[0, 2 * b / 3, HEIGHT / 4], [a / 2, b / 3, HEIGHT / 4]]
    atoms = Atoms("C2", positions, cell=cell, pbc=(1, 1, 0)).repeat((3, 3, 1))
    atoms.positions += generator.normal(scale=size, size=atoms.positions.shape)
    return atoms


def merge(out: str, published: str, parts: list[tuple[str, str]]) -> None:
    """One store with the splits of the published cells, and the others added to them."""
    with Store.open(published) as first:
        splits = {name: list(names) for name, names in first.splits.items()}
        with new_store(out, first.basis, first.spin, first.metadata) as target:
            for name in first.names():
                target.append(first[name])
            for split, path in parts:
                with Store.open(path) as part:
                    for name in part.names():
                        target.append(part[name])
                    splits[split] = [*splits.get(split, []), *part.names()]
            target.set_splits(splits)
    print(f"{out}: " + ", ".join(f"{name} {len(names)}" for name, names in splits.items()))


if __name__ == "__main__":
    sys.exit(main())
