"""Write bilayers of graphene: small ones to label, and the commensurate twisted cell of any angle.

    python examples/results/twisted_bilayers.py small FOLDER          # to train on: train.xyz, val.xyz, test.xyz
    python examples/results/twisted_bilayers.py twisted 30 magic.xyz  # (31, 30): 1.08 degrees, 11,164 atoms

    for s in train val test; do harmose label FOLDER/$s.xyz $s.store --code cp2k --kmesh 3 3 1 --cutoff 280 \\
        --rel-cutoff 35 --pair-cutoff 8.2 --max-dropped 5e-3; done
    python examples/results/twisted_bilayers.py merge STORE           # of train.store, val.store and test.store, which are its splits

Small ones: 28 atoms, where the layers' lattices agree in a cell sqrt(7) times as wide. In half of them the layers are
parallel and shifted at random, as they are locally in a slightly twisted bilayer; in the others
they are twisted by 21.8 degrees. All are strained, at random distances of the layers, and thermally displaced.
With 3 x 3 k-points the corners of each layer's zone, where the bands cross, are on the mesh.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from harmose.bench.systems import INTERLAYER, LATTICE, layer, primitive, twisted
from harmose.data.store import Store
from harmose.errors import HarmoseError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write bilayers of graphene.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    small = kinds.add_parser("small", help="cells of 28 atoms to label")
    small.add_argument("folder", type=Path)
    big = kinds.add_parser("twisted", help="one commensurate cell (m + 1, m), not displaced")
    big.add_argument("m", type=int)
    big.add_argument("file", type=Path)
    merged = kinds.add_parser(
        "merge", help="train.store, val.store and test.store of this folder as one store with splits"
    )
    merged.add_argument("store", type=Path)
    merged.add_argument("--train", type=int, help="only so many of train.store")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "merge":
            merge(options.store, options.train)
            return 0
        if options.kind == "twisted":
            atoms = twisted(options.m)
            atoms.write(options.file, format="extxyz")
            print(f"{options.file}: {len(atoms)} atoms, {angle(options.m):.3f} degrees")
            return 0
        options.folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(0)
        for split, n in {"train": 32, "val": 3, "test": 6}.items():
            structures = [sampled(generator, k % 2 == 0) for k in range(n)]
            write(options.folder / f"{split}.xyz", structures, format="extxyz")
            print(f"{options.folder / split}.xyz: {n} structures")
    except OSError as error:
        print(f"error: {error.filename}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def merge(path: Path, n_train: int | None = None) -> None:
    """One store of three, whose names without `.store` are its splits."""
    splits = {}
    for split in ("train", "val", "test"):
        with Store.open(f"{split}.store") as part:
            names = part.names()[: n_train if split == "train" else None]
            whole = (
                Store.open(path, writable=True) if splits else Store.create(path, part.basis, part.spin, part.metadata)
            )
            with whole:
                whole.append_all(part[name] for name in names)
            splits[split] = names
    with Store.open(path, writable=True) as whole:
        whole.set_splits(splits)
    print(f"{path}: " + ", ".join(f"{len(names)} {split}" for split, names in splits.items()))


def angle(m: int) -> float:
    """Degrees between the layers of the cell (m + 1, m): cos = (n^2 + 4 n m + m^2) / 2 (n^2 + n m + m^2), n = m + 1."""
    n = m + 1
    return float(np.degrees(np.arccos((n * n + 4 * n * m + m * m) / (2 * (n * n + n * m + m * m)))))


def shifted(shift: np.ndarray, interlayer: float = INTERLAYER, lattice: float = LATTICE) -> Atoms:
    """Parallel layers in the cell of `twisted(1)`; `shift` (2,) of the upper one in fractions of the primitive cell."""
    lower = layer((2, 1), (-1, 3), lattice)
    upper = lower.copy()
    upper.positions += [*(np.asarray(shift) @ primitive(lattice).cell.array[:2, :2]), interlayer]
    return lower + upper


def sampled(generator: np.random.Generator, is_twisted: bool) -> Atoms:
    """One structure to label: 28 atoms."""
    lattice = LATTICE * (1 + generator.normal(scale=0.006))
    distance = INTERLAYER + generator.normal(scale=0.1)
    atoms = twisted(1, distance, lattice) if is_twisted else shifted(generator.random(2), distance, lattice)
    atoms.positions += generator.normal(scale=generator.uniform(0.0, 0.05), size=atoms.positions.shape)
    return atoms


if __name__ == "__main__":
    sys.exit(main())
