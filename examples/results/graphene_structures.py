"""Write structures of graphene that a model may be asked about: perfect, displaced, strained, stacked, cut and defective.

    python examples/results/graphene_structures.py FOLDER
    harmose predict graphene-pbe-dzvp FOLDER/bilayer.xyz
    harmose bands graphene-pbe-dzvp FOLDER/pristine.xyz --path GMKG --window -5 5

Each becomes one file in extended xyz, with its cell. `examples/results/graphene_table.py` predicts all of them.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene_nanoribbon

LATTICE = 2.46
"""Angstrom: close to PBE's constant, and that of the cells which the shipped model was trained on."""
INTERLAYER = 3.35
"""Angstrom, of AB graphite."""
VACUUM = 12.0
"""Angstrom: the cell's height; a layer is not periodic across it."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write structures of graphene.")
    parser.add_argument("folder", type=Path, help="the folder for them, made if it is missing")
    folder = parser.parse_args(arguments).folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, atoms in structures().items():
            atoms.write(folder / f"{name}.xyz", format="extxyz")
            print(f"{folder / name}.xyz: {len(atoms)} atoms")
    except OSError as error:
        print(f"error: {error.filename}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


def structures() -> dict[str, Atoms]:
    """All of them by name; random displacements are the same in each run."""
    cells = {f"pristine-{n}x{n}": primitive().repeat((n, n, 1)) for n in (3, 5, 6, 10)}
    five = cells["pristine-5x5"]
    return {
        "pristine": primitive(),
        **cells,
        "displaced-0.05": displaced(five, 0.05),
        "displaced-0.15": displaced(five, 0.15),
        **{f"strained-{percent}": strained(primitive(), percent / 100) for percent in (1, 2, 5)},
        "bilayer": bilayer(),
        "zigzag-ribbon": ribbon("zigzag"),
        "armchair-ribbon": ribbon("armchair"),
        "vacancy": five[np.arange(len(five)) != 20],
    }


def primitive() -> Atoms:
    """Two atoms in a hexagonal cell; the layer is periodic in two directions."""
    a, height = LATTICE, LATTICE * np.sqrt(3) / 2
    cell = [[a, 0, 0], [-a / 2, height, 0], [0, 0, VACUUM]]
    return Atoms("C2", [[0, 2 * height / 3, VACUUM / 4], [a / 2, height / 3, VACUUM / 4]], cell=cell, pbc=(1, 1, 0))


def displaced(atoms: Atoms, size: float) -> Atoms:
    """Every coordinate moved by a normal distribution of `size` angstrom."""
    out = atoms.copy()
    out.positions += np.random.default_rng(0).normal(scale=size, size=out.positions.shape)
    return out


def strained(atoms: Atoms, strain: float) -> Atoms:
    """Stretched alike in both directions of the plane."""
    out = atoms.copy()
    out.set_cell(out.cell.array * [1 + strain, 1 + strain, 1], scale_atoms=True)
    return out


def bilayer() -> Atoms:
    """AB (Bernal): half of the upper layer's atoms lie over atoms of the lower one, half over its hexagons."""
    lower, upper = primitive(), primitive()
    upper.positions += [*(lower.positions[1] - lower.positions[0])[:2], INTERLAYER]
    return lower + upper


def ribbon(edge: str) -> Atoms:
    """Bare, periodic along z."""
    width, length = {"zigzag": (4, 1), "armchair": (7, 1)}[edge]
    return graphene_nanoribbon(width, length, type=edge, C_C=LATTICE / np.sqrt(3), saturated=False, vacuum=6.0)


if __name__ == "__main__":
    sys.exit(main())
