"""Structures of the scans that `benchmarks/scans.py` evaluates: inside, at the edge of and beyond the training sets.

    python benchmarks/scan_structures.py FOLDER     # water.xyz, organics.xyz, graphene.xyz, bilayer.xyz

Each structure has the name of its scan and its coordinate along it in `info`: "scan", "x". `harmose label` labels the
files. Every run makes the same structures: without random numbers, or from fixed seeds.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene_nanoribbon, molecule
from ase.io import write
from scipy.stats import qmc

BOX = np.array([[0.84, 1.28], [0.84, 1.28], [1.21, 1.96]])
"""Angstrom. Ranges of both O-H distances and of H-H in the 500 waters that the shipped model was trained on."""
TRAINED = {"O-H": (0.84, 1.28), "H-O-H": (74.1, 154.4)}
"""Ranges of these coordinates (angstrom, degrees) in the same 500 waters."""
AROUND = 0.2
"""Angstrom. The grid around the box reaches so far beyond each side."""
N_GRID = 500
"""Points inside the box, and as many around it."""

STRETCHES = (0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5)
"""Factors of the length of a bond."""
BONDS = {
    "CH4": (0, 1),
    "C2H6": (0, 1),
    "C2H4": (0, 1),
    "CH3OH": (0, 1),
    "H3CNH2": (0, 1),
    "H2CO": (0, 1),
    "HCN": (0, 1),
    "CH3CH2OH": (0, 1),
}
"""Molecules of ASE's G2 set, and the atoms of the bond that is stretched."""
HETEROATOMS = {
    "N2H4": (0, 1),
    "H2O2": (0, 1),
    "F2": (0, 1),
    "NF3": (0, 1),
    "F2O": (1, 0),
    "HF": (0, 1),
    "N2": (0, 1),
    "CO": (0, 1),
    "H2O": (0, 1),
    "NH3": (0, 1),
    "H2": (0, 1),
}
"""Molecules with a bond that few or no others have, or that are small and unlike all others; and the atoms of the bond."""
UNUSUAL = ("CO", "O3", "NF3", "HF", "F2", "F2O", "N2", "HCOOH", "CF4", "H2", "N2O", "CO2")
"""Molecules as they are."""

LATTICE = 2.46
"""Lattice constant of graphene in angstrom."""

TITLES = {
    "O-H": ("One O-H bond stretched", "O-H distance (Å)"),
    "H-O-H": ("Angle bent", "H-O-H (degrees)"),
    "dimer": ("Two molecules moved apart", "O-O distance (Å)"),
    "grid inside": ("Grid in the training range", ""),
    "grid around": ("Grid around the training range", ""),
    "ethanol torsion": ("Torsion of ethanol", "C-C-O-H (degrees)"),
    "strain (%)": ("Sheet under strain", "strain (%)"),
    "displaced (angstrom)": ("Disordered sheet", "displacements (Å)"),
    "bilayer (angstrom)": ("Two layers", "distance (Å)"),
    "two layers (angstrom)": ("Two layers", "distance (Å)"),
}
"""Titles of scans and of their coordinates; for the others see `titles`."""


def named(atoms: Atoms, scan: str, x: float) -> Atoms:
    """The structure with the name of its scan, its coordinate and a name of its own in `info`."""
    atoms.info = {"scan": scan, "x": float(x), "name": f"{scan.replace(' ', '-')}-{x:g}"}
    return atoms


def titles(scan: str) -> tuple[str, str]:
    """Title of a scan, and of its coordinate with unit; empty if it has none."""
    name = scan.removeprefix("bond of ")
    if name != scan:
        first, second = sorted((molecule(name).symbols[k] for k in (BONDS | HETEROATOMS)[name]), key="CNOFH".index)
        return f"{first}-{second} bond of {name}", "length / that at rest"
    title = scan.partition(" (")[0]
    return TITLES.get(scan, (title[0].upper() + title[1:], ""))


# Water ---------------------------------------------------------------------------------------------------------------


def waters() -> Iterator[Atoms]:
    """Both grids, one O-H distance, the angle, and two molecules that move apart."""
    yield from grids()
    bonds = (*np.arange(0.6, 1.601, 0.05), 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
    yield from (named(water(first=r), "O-H", round(r, 3)) for r in bonds)
    yield from (named(water(angle=a), "H-O-H", a) for a in range(40, 181, 5))
    for d in (2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 20.0):
        other = water()
        other.rotate(37, (1, 1, 0))
        other.translate([0, 0, d])
        yield named(water() + other, "dimer", d)


def grids() -> Iterator[Atoms]:
    """Water on Sobol sequences in both O-H distances and H-H: inside `BOX`, and around it."""
    wide = BOX + np.array([-AROUND, AROUND])
    inside = qmc.scale(qmc.Sobol(3, seed=1).random(2048), *BOX.T)
    around = qmc.scale(qmc.Sobol(3, seed=2).random(4096), *wide.T)
    around = around[((around < BOX[:, 0]) | (around > BOX[:, 1])).any(1)]
    for name, points in (("grid inside", inside), ("grid around", around)):
        possible = [x for x in points if abs(_cosine(*x)) < 1][:N_GRID]
        for k, (first, second, apart) in enumerate(possible):
            yield named(water(first, second, np.degrees(np.arccos(_cosine(first, second, apart)))), name, k)


def _cosine(first: float, second: float, apart: float) -> float:
    """Cosine of the angle between two sides of a triangle, from the lengths of these and of the third side."""
    return (first**2 + second**2 - apart**2) / (2 * first * second)


def water(first: float = 0.96, second: float = 0.96, angle: float = 104.5) -> Atoms:
    """A water molecule with these O-H distances (angstrom) and this angle (degrees)."""
    a = np.radians(angle)
    return Atoms("OHH", [[0, 0, 0], [first, 0, 0], [second * np.cos(a), second * np.sin(a), 0]])


# Organic molecules ---------------------------------------------------------------------------------------------------


def organics() -> Iterator[Atoms]:
    """The torsion of ethanol, one stretched bond of each molecule, and unusual molecules as they are."""
    for angle in range(0, 360, 20):
        atoms = molecule("CH3CH2OH")
        oxygen = int(np.flatnonzero(atoms.numbers == 8)[0])
        hydrogen = int(np.argmin(np.where(atoms.numbers == 1, atoms.get_distances(oxygen, range(len(atoms))), 9)))
        carbons = np.flatnonzero(atoms.numbers == 6)
        near, far = carbons[np.argsort(atoms.get_distances(oxygen, carbons))]
        atoms.set_dihedral(int(far), int(near), oxygen, hydrogen, angle, indices=[hydrogen])
        yield named(atoms, "ethanol torsion", angle)
    for name, bond in (BONDS | HETEROATOMS).items():
        yield from (named(stretched(name, bond, f), f"bond of {name}", f) for f in STRETCHES)
    for k, name in enumerate(UNUSUAL):
        yield named(molecule(name), "unusual", k)
    diazomethane = Atoms("CN2H2", [[0, 0, 0], [0, 0, 1.30], [0, 0, 2.44], [0.95, 0, -0.51], [-0.95, 0, -0.51]])
    yield named(diazomethane, "unusual", len(UNUSUAL))


def stretched(name: str, bond: tuple[int, int], factor: float) -> Atoms:
    """A molecule with one bond stretched: the side of its second atom moves along it; in a ring, that atom alone."""
    atoms = molecule(name)
    first, second = bond
    distances = atoms.get_all_distances()
    bonded = (distances < 1.75) & ~np.eye(len(atoms), dtype=bool)
    bonded &= (distances < 1.3) | ((atoms.numbers[:, None] > 1) & (atoms.numbers > 1))
    bonded[first, second] = bonded[second, first] = False
    moved = {second}
    while grown := {int(k) for j in moved for k in np.flatnonzero(bonded[j])} - moved:
        moved |= grown
    moved = {second} if first in moved else moved
    atoms.positions[sorted(moved)] += (factor - 1) * (atoms.positions[second] - atoms.positions[first])
    return atoms


# Crystals ------------------------------------------------------------------------------------------------------------


def graphene() -> Iterator[Atoms]:
    """Strained and disordered sheets, with a vacancy or an atom out of the plane; bilayers, a ribbon, and C60."""
    yield from (named(sheet(3, strain=x / 100), "strain (%)", x) for x in (-10, -5, 0, 2, 5, 10))
    uniaxial = sheet(3)
    cell = uniaxial.cell.array.copy()
    cell[0] *= 1.1
    uniaxial.set_cell(cell, scale_atoms=True)
    yield named(uniaxial, "strain along one vector (%)", 10)
    for size in (0.05, 0.1, 0.15, 0.3):
        atoms = sheet(3)
        atoms.positions += np.random.default_rng(0).normal(scale=size, size=atoms.positions.shape)
        yield named(atoms, "displaced (angstrom)", size)
    cut = sheet(3)
    yield named(cut[np.arange(len(cut)) != 8], "vacancy", 1)
    lifted = sheet(3)
    lifted.positions[4, 2] += 1.0
    yield named(lifted, "atom out of plane (angstrom)", 1)
    yield from (named(layers([d]), "bilayer (angstrom)", d) for d in (2.5, 3.0, 3.35, 4.0, 5.0, 6.0))
    yield named(ribbon(), "zigzag ribbon", 4)
    ball = molecule("C60")
    ball.set_cell([15.0, 15.0, 15.0])
    ball.center()
    ball.pbc = True
    yield named(ball, "C60", 60)


def bilayers() -> Iterator[Atoms]:
    """Two AB-stacked layers at several distances, three layers, and one."""
    yield from (named(layers([d]), "two layers (angstrom)", d) for d in (2.5, 3.0, 3.35, 3.7, 4.5, 6.0))
    yield named(layers([3.35, 3.35]), "three layers", 3)
    yield named(sheet(1, 25.0), "one layer", 1)


def sheet(n: int = 3, height: float = 15.0, strain: float = 0.0) -> Atoms:
    """n x n cells of graphene, periodic in the plane."""
    a, b = LATTICE * (1 + strain), LATTICE * (1 + strain) * np.sqrt(3) / 2
    cell = [[a, 0, 0], [-a / 2, b, 0], [0, 0, height]]
    atoms = Atoms("C2", [[0, 2 * b / 3, height / 4], [a / 2, b / 3, height / 4]], cell=cell, pbc=(1, 1, 0))
    return atoms.repeat((n, n, 1))


def layers(gaps: list[float], n: int = 1, height: float = 25.0) -> Atoms:
    """AB-stacked layers, the given distances apart (angstrom)."""
    out = sheet(n, height)
    z = 0.0
    for k, gap in enumerate(gaps, 1):
        z += gap
        layer = sheet(n, height)
        layer.translate([0, (LATTICE / np.sqrt(3)) * (k % 2), z])
        out += layer
    return out


def ribbon() -> Atoms:
    """A zigzag ribbon without hydrogen, in the plane of the first two lattice vectors as the sheets are."""
    made = graphene_nanoribbon(4, 1, type="zigzag", C_C=LATTICE / np.sqrt(3), vacuum=8.0)
    turned = [2, 0, 1]
    cell = made.cell.array[turned][:, turned]
    return Atoms("C" * len(made), made.positions[:, turned], cell=cell, pbc=(1, 1, 0))


SETS = {"water": waters, "organics": organics, "graphene": graphene, "bilayer": bilayers}
"""Structures by the model that they are for."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for one file for each set; made if missing")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, structures in SETS.items():
        found = list(structures())
        write(folder / f"{name}.xyz", found, format="extxyz")
        print(f"{folder / name}.xyz: {len(found)} structures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
