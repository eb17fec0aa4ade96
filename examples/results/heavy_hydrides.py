"""Bent and stretched hydrides of heavy elements, for labels with spin-orbit coupling.

    python examples/results/heavy_hydrides.py hydrides.xyz
    harmose label hydrides.xyz hydrides.store --functional b3lypg --basis crenbl --spin spinor
    harmose data split hydrides.store --val 0.1 --test 0.2

Fifty geometries each of H2Te, H2Po and SbH3, always the same ones: every bond is 8 % shorter to 12 % longer than in
equilibrium, its direction off by about 0.15 rad, and the molecule turned at random.
"""

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from harmose.so3.wigner import random_rotation

MOLECULES = {"Te": (2, 1.66, 90.3), "Po": (2, 1.75, 89.0), "Sb": (3, 1.70, 91.6)}
"""Number of hydrogens of each heavy atom, bond length in angstrom and H-X-H angle in degrees, near equilibrium."""

GEOMETRIES = 50


def directions(n_bonds: int, angle: float) -> np.ndarray:
    """Unit vectors of bonds around z with this angle (degrees) between neighbours, (n_bonds, 3)."""
    around = 2 * np.pi * np.arange(n_bonds) / n_bonds
    # |u - v| of neighbours is 2 sin(tilt) sin(pi / n) and 2 sin(angle / 2)
    sine = np.sin(np.radians(angle) / 2) / np.sin(np.pi / n_bonds)
    return np.stack([sine * np.cos(around), sine * np.sin(around), np.full(n_bonds, np.sqrt(1 - sine**2))], 1)


def geometry(symbol: str, generator: np.random.Generator) -> Atoms:
    """One distorted molecule."""
    n_bonds, length, angle = MOLECULES[symbol]
    bonds = directions(n_bonds, angle) + generator.normal(scale=0.15, size=(n_bonds, 3))
    bonds *= (length * generator.uniform(0.92, 1.12, n_bonds) / np.linalg.norm(bonds, axis=1))[:, None]
    positions = np.concatenate([np.zeros((1, 3)), bonds]) @ random_rotation(generator).T
    return Atoms(symbol + n_bonds * "H", positions)


def geometries() -> list[Atoms]:
    """All of them, in turn."""
    generator = np.random.default_rng(0)
    return [geometry(symbol, generator) for _ in range(GEOMETRIES) for symbol in MOLECULES]


def main(path: str) -> None:
    target = Path(path)
    if target.exists():
        sys.exit(f"{target}: exists already")
    write(target, geometries(), format="extxyz")
    print(f"{target}: {GEOMETRIES * len(MOLECULES)} structures")


if __name__ == "__main__":
    main(*sys.argv[1:])
