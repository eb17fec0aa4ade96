"""Systems to time: structures by name, each with the shipped model for its elements.

`water-N` is a batch of N molecules; `ethanol` and `butane` are molecules; `graphene-NxN` is a layer of 2 N^2 atoms;
`bilayer-M` is the commensurate twisted cell (M + 1, M) of two layers, 4 (3 M^2 + 3 M + 1) atoms. All atoms are
displaced at random.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import make_supercell, molecule

from harmose.errors import ConfigError

MOLECULES = ("water-1", "water-10", "ethanol", "butane")
CRYSTALS = ("graphene-3x3", "graphene-6x6", "graphene-10x10", "bilayer-5", "bilayer-9")
DEFAULT = (*MOLECULES, *CRYSTALS)
QUICK = ("water-1",)
NAMES = "water-N, ethanol, butane, graphene-NxN, bilayer-M"

DISPLACEMENT = 0.03
"""Standard deviation in angstrom of the displacements, which make all edges different."""
LATTICE, INTERLAYER, HEIGHT, BOTTOM = 2.46, 3.35, 15.0, 2.0
"""Lattice constant of graphene, distance of two layers, height of the cell and of the lower layer, in angstrom."""


@dataclass(frozen=True)
class System:
    """One structure, or a batch of several, and the name of a model."""

    name: str
    model: str
    structures: tuple[Atoms, ...]

    @property
    def n_atoms(self) -> int:
        return sum(map(len, self.structures))


def system(name: str, model: str | None = None) -> System:
    """The system with a name; `ConfigError` unless it is one of `NAMES`. `model` replaces the shipped one."""
    for pattern, shipped, make in _SYSTEMS:
        match = re.fullmatch(pattern, name)
        if match:
            structures = make(*(int(n) for n in match.groups()))
            return System(name, model or shipped, tuple(_displaced(a, seed) for seed, a in enumerate(structures)))
    raise ConfigError(f"--systems: expected some of {NAMES}, got {name!r}")


def _displaced(atoms: Atoms, seed: int) -> Atoms:
    atoms.positions += np.random.default_rng(seed).normal(scale=DISPLACEMENT, size=atoms.positions.shape)
    return atoms


def _waters(n: int) -> list[Atoms]:
    return [molecule("H2O") for _ in range(n)]


def _layers(n: int, m: int) -> list[Atoms]:
    return [primitive().repeat((n, m, 1))]


def primitive(lattice: float = LATTICE) -> Atoms:
    """The primitive cell of graphene. The origin is the middle of a hexagon; the lattice vectors enclose 60 degrees."""
    cell = [[lattice, 0, 0], [lattice / 2, lattice * np.sqrt(3) / 2, 0], [0, 0, HEIGHT]]
    height = BOTTOM / HEIGHT
    return Atoms("C2", scaled_positions=[[1 / 3, 1 / 3, height], [2 / 3, 2 / 3, height]], cell=cell, pbc=(1, 1, 0))


def layer(a: tuple[int, int], b: tuple[int, int], lattice: float = LATTICE) -> Atoms:
    """One layer in the cell that these two combinations of primitive vectors span."""
    return make_supercell(primitive(lattice), [[*a, 0], [*b, 0], [0, 0, 1]])


def twisted(m: int, interlayer: float = INTERLAYER, lattice: float = LATTICE) -> Atoms:
    """The smallest cell of two flat layers, rotated about the middle of a hexagon until (m + 1, m) meets (m, m + 1)."""
    n = m + 1
    lower, upper = layer((n, m), (-m, n + m), lattice), layer((m, n), (-n, n + m), lattice)
    azimuth = [np.degrees(np.arctan2(*x.cell.array[0, 1::-1])) for x in (lower, upper)]
    upper.rotate(azimuth[0] - azimuth[1], "z", rotate_cell=True)
    upper.set_cell(lower.cell)
    upper.positions[:, 2] += interlayer
    return lower + upper


_SYSTEMS: tuple[tuple[str, str, Callable[..., list[Atoms]]], ...] = (
    (r"water-([1-9]\d{0,3})", "water-pbe-def2svp", _waters),
    (r"ethanol", "organics-b3lyp-def2svp", lambda: [molecule("CH3CH2OH")]),
    (r"butane", "organics-b3lyp-def2svp", lambda: [molecule("trans-butane")]),
    (r"graphene-([1-9]\d{0,1})x([1-9]\d{0,1})", "graphene-pbe-dzvp", _layers),
    (r"bilayer-([1-9]\d{0,1})", "bilayer-graphene-pbe-dzvp", lambda m: [twisted(m)]),
)
