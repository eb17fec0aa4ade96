"""Waters that fill the box of the training distances, to train on beside those of a trajectory, as an xyz file.

    python examples/results/water_box.py box.xyz
    harmose label box.xyz box --functional pbe --basis def2-svp

In a trajectory both bonds are rarely stretched at once: the corners of the box of its O-H and H-H distances are empty, and a
regression of the trajectory alone extrapolates there. A Sobol sequence in the three distances fills them; 0.03 angstrom more
on each side.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from scipy.spatial.transform import Rotation
from scipy.stats import qmc

N = 300
LOW, HIGH = (0.81, 0.81, 1.18), (1.31, 1.31, 1.99)
"""Angstrom. Ranges of both O-H distances, and of H-H."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    structures = geometries()
    write(file, structures, format="extxyz")
    print(f"{file}: {len(structures)} structures")
    return 0


def geometries() -> list[Atoms]:
    """All of them, always the same, turned at random."""
    generator, out = np.random.default_rng(11), []
    for first, second, apart in qmc.scale(qmc.Sobol(3, seed=11).random(1024), LOW, HIGH):
        cosine = (first**2 + second**2 - apart**2) / (2 * first * second)
        if abs(cosine) < 1 and len(out) < N:
            sine = np.sqrt(1 - cosine**2)
            positions = np.array([[0, 0, 0], [first, 0, 0], [second * cosine, second * sine, 0]])
            out.append(Atoms("OHH", Rotation.random(rng=generator).apply(positions)))
    return out


if __name__ == "__main__":
    sys.exit(main())
