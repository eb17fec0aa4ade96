"""Tetrahydrofuran with displaced atoms: one molecule that the model of organic molecules was not trained on, as an xyz file.

    python examples/results/displaced_thf.py thf.xyz
    harmose label thf.xyz thf --functional b3lypg --basis def2-svp --prior tabulated

Each coordinate of the ideal geometry is displaced by a normal number of 0.05 angstrom, and the molecule is turned at random.
Geometries 0 to 9, and 35 to 54 for thirty of them, were trained on, 10 to 29 tested, and 30 to 34 used for validation.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from scipy.spatial.transform import Rotation

N, SIZE = 60, 0.05
"""Number of geometries, and standard deviation of the displacements in angstrom."""

IDEAL = Atoms(
    "OC4H8",
    [
        (1.14857685, -0.02266418, 0.43717223),
        (0.43379378, 1.10761816, -0.07100052),
        (-1.03610279, 0.69547248, 0.01039589),
        (-1.00463305, -0.83359326, 0.01676778),
        (0.48098889, -1.18557099, -0.06149272),
        (0.63361650, 1.99715812, 0.53363885),
        (0.73127204, 1.31648323, -1.10343164),
        (-1.50208717, 1.08184131, 0.92298315),
        (-1.60094127, 1.07693682, -0.84608634),
        (-1.45444956, -1.23119107, 0.93263868),
        (-1.55317930, -1.24509827, -0.83639053),
        (0.71715191, -2.06109938, 0.55045174),
        (0.78696599, -1.39055625, -1.09221594),
    ],
)
"""From usual bond lengths and angles; angstrom."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    write(parser.parse_args().file, geometries())
    return 0


def geometries() -> list[Atoms]:
    """Return the displaced and turned copies."""
    generator, out = np.random.default_rng(1), []
    for k in range(N):
        displaced = IDEAL.positions + generator.normal(scale=SIZE, size=IDEAL.positions.shape)
        out.append(Atoms(IDEAL.symbols, displaced @ Rotation.random(random_state=k).as_matrix().T))
    return out


if __name__ == "__main__":
    sys.exit(main())
