"""Twisted bilayer graphene at the magic angle: 11,164 atoms from structure to H, S, density of states and a picture.

    python examples/results/magic_angle.py FOLDER                  # 1.08 degrees; hours of DFT, minutes here
    python examples/results/magic_angle.py FOLDER --whole 24       # and its 24 states nearest to E_F at Gamma: 20 GB, 15 minutes more
    python examples/results/magic_angle.py FOLDER --m 9            # 3.48 degrees, 1,084 atoms: quick

Writes dos.csv, states.csv and magic-angle.png into FOLDER, and prints how long each step took and how large the process
became. The states nearest to the Fermi level are computed for cells of larger angles (`--cells`), from 9.4 degrees downwards.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from ase import Atoms
from scipy.spatial import cKDTree
from twisted_bilayers import angle, shifted, twisted

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.evaluate.style import DFT, FAINT, FULL, STAGE1, TEXT, dress, legend, new_figure
from harmose.inference.model import Model
from harmose.physics.dos import DensityOfStates, DosSettings, dos
from harmose.physics.sparse.kpm import kpm
from harmose.physics.sparse.shift_invert import states_near
from harmose.physics.states import mesh_fermi_level

MODEL = "bilayer-graphene-pbe-dzvp"
VALENCE = 4
"""Electrons of an atom that the pseudopotential leaves."""
WINDOW = (-12.0, 6.0)
"""eV about the Fermi level."""
SMALL = 2
"""The cell m whose Fermi level is computed from all bands. In neutral graphene it lies where the bands cross, at every angle."""
DENSE = 5_000
"""Number of orbitals up to which a dense solver checks the states."""
NEAR = 12
"""Number of states computed for each angle."""
K = (1 / 3, 2 / 3, 0.0)
"""Corner of the Brillouin zone, in fractions of the reciprocal vectors, which are 120 degrees apart."""


class States(NamedTuple):
    """Energies of the states of cell m at a k-point, in eV from the band crossing, or for `--whole` from the Fermi level."""

    m: int
    point: str
    energies: np.ndarray


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Twisted bilayer graphene, from structure to density of states.")
    parser.add_argument("folder", type=Path, help="output folder, made if it is missing")
    parser.add_argument("--m", type=int, default=30, help="the cell (m + 1, m); 30 is the magic angle")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--memory", type=float, default=12.0, help="GB that the prediction may take")
    parser.add_argument("--width", type=float, default=0.1, help="broadening of the density of states, eV")
    parser.add_argument(
        "--cells", type=int, nargs="*", default=[3, 4, 5, 6, 7, 8], help="cells m whose states are computed"
    )
    parser.add_argument("--whole", type=int, default=0, help="number of states of the large cell to compute at Gamma")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    model = harmose.load(options.model)
    atoms = twisted(options.m)
    print(f"({options.m + 1}, {options.m}): {angle(options.m):.3f} degrees, {len(atoms):,} atoms")
    with timed("H"):
        h = model.predict(atoms, memory=options.memory * 1e9, energy_zero="labels", log=print)
    with timed("S"):
        s = harmose.overlap(atoms, h.basis)
    print(f"{h.n_orbitals:,} orbitals, {2 * len(h.pairs):,} directed blocks")
    with timed(f"Fermi level at {angle(SMALL):.1f} degrees"):
        level = crossing(model, SMALL)
    print(f"{level:.4f} eV on the energy scale of the labels")
    with timed("density of states"):
        found = kpm(h, s, atoms, WINDOW, options.width, fermi_level=level)
    density, error = found.dos(WINDOW)
    electrons = found.electrons([level])[:, 0]
    print(
        f"{electrons.mean():.0f} +- {electrons.std() / len(electrons) ** 0.5:.0f} of {VALENCE * len(atoms)} electrons below"
    )
    states = []
    if options.whole:
        with timed(f"{options.whole} states at Gamma of {len(atoms):,} atoms"):
            states.append(States(options.m, "Gamma", states_near(h, s, level, options.whole).energies[0] - level))
    del h, s
    bernal = bernal_dos(model, options.width)
    for m in options.cells:
        states += states_at_crossing(model, m, level)
    write_tables(options.folder, density, error, states)
    picture(atoms, options.m, density, error, bernal, states).savefig(options.folder / "magic-angle.png", dpi=200)
    print(options.folder / "magic-angle.png")
    return 0


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a step took, and the size of the process after it."""
    start = time.perf_counter()
    yield
    size = psutil.Process().memory_info().rss / 1e9
    print(f"{what}: {time.perf_counter() - start:.1f} s, {size:.1f} GB in use", flush=True)


def bernal_dos(model: Model, width: float) -> DensityOfStates:
    """Density of states of the untwisted AB bilayer, from a mesh of k-points."""
    atoms = shifted(np.array([1 / 3, 1 / 3]))
    h = model.predict(atoms)
    settings = DosSettings(WINDOW, width)
    return dos(h, harmose.overlap(atoms, h.basis), atoms, (12, 12, 1), VALENCE * len(atoms), settings=settings)


def crossing(model: Model, m: int) -> float:
    """Fermi level (eV, on the energy scale of the labels) of a cell small enough to compute all bands."""
    atoms = twisted(m)
    h = predict_on_label_scale(model, atoms)
    return mesh_fermi_level(h, harmose.overlap(atoms, h.basis), (3, 3, 1), VALENCE * len(atoms))


def states_at_crossing(model: Model, m: int, level: float) -> list[States]:
    """Return the states of cell m nearest to its band crossing, at Gamma and K, in eV from the crossing."""
    atoms = twisted(m)
    with timed(f"states at {angle(m):.2f} degrees, {len(atoms)} atoms"):
        h, points = predict_on_label_scale(model, atoms), [(0.0, 0.0, 0.0), K]
        s = harmose.overlap(atoms, h.basis)
        energies = states_near(h, s, level, NEAR, points).energies
    if h.n_orbitals <= DENSE:
        every = harmose.eigenvalues(h, s, points)
        off = max(np.abs(e[:, None] - dense).min(axis=1).max() for e, dense in zip(energies, every, strict=True))
        print(f"  from those of the dense solver by at most {off:.1e} eV")
    # At K four states meet: each layer has a cone at each corner of its zone.
    zero = np.sort(energies[1][np.argsort(np.abs(energies[1] - level))[:4]]).mean()
    print(f"  the bands cross at {zero:.4f} eV")
    return [States(m, "Gamma", energies[0] - zero), States(m, "K", energies[1] - zero)]


def predict_on_label_scale(model: Model, atoms: Atoms) -> BlockMatrix:
    """Predict H on the energy scale of the labels, without a search for its Fermi level."""
    return model.predict(atoms, energy_zero="labels")


def write_tables(folder: Path, density: DensityOfStates, error: np.ndarray, states: list[States]) -> None:
    rows = np.column_stack([density.relative, density.total, error])
    header = "energy - Fermi level (eV),states per eV and cell (two electrons each),standard error"
    np.savetxt(folder / "dos.csv", rows, "%.6f", ",", header=header, comments="")
    lines = [
        f"{angle(m):.6f},{4 * (3 * m * m + 3 * m + 1)},{point},{energy:.6f}"
        for m, point, energies in states
        for energy in energies
    ]
    text = "\n".join(["angle (degrees),atoms,k-point,energy - crossing (eV)", *lines]) + "\n"
    (folder / "states.csv").write_text(text, encoding="utf-8")


def picture(
    atoms: Atoms,
    m: int,
    density: DensityOfStates,
    error: np.ndarray,
    bernal: DensityOfStates,
    states: list[States],
):
    """Draw the structure, the density of states and the states nearest to the crossing."""
    figure = new_figure(11.0, 3.8)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.0, 1.25, 1.0])
    _stacking(left, atoms, m)
    per_atom = density.total / len(atoms)
    dress(
        middle,
        "energy − Fermi level (eV)",
        "states per eV and atom",
        f"{len(atoms):,} atoms, {len(atoms) * 13:,} orbitals",
    )
    middle.plot(bernal.relative, bernal.total / 28, color=FAINT, linewidth=1.0, label="AB, not twisted")
    middle.plot(density.relative, per_atom, color=FULL, linewidth=1.2, label=f"{angle(m):.2f}°")
    spread = 2 * error / len(atoms)
    middle.fill_between(density.relative, per_atom - spread, per_atom + spread, color=FULL, alpha=0.2, linewidth=0)
    middle.axvline(0, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    middle.set(xlim=WINDOW, ylim=(0, None))
    legend(middle, loc="upper right")
    dress(right, "twist (degrees)", "energy − crossing (eV)", "states nearest to the crossing", "y")
    for point, colour, shift in (("Gamma", STAGE1, -0.06), ("K", DFT, 0.06)):
        mine = [(angle(k) + shift, energy) for k, at, energies in states if at == point for energy in energies]
        x, y = np.array(mine).reshape(-1, 2).T
        right.scatter(x, y, 60, colour, marker="_", linewidths=1.2, label="Γ" if point == "Gamma" else "K")
    legend(right, loc="upper left")
    return figure


def _stacking(axes, atoms: Atoms, m: int) -> None:
    """Draw 3 x 3 cells from above; colour: distance of each lower atom to the nearest upper one, in the plane."""
    lower, upper = (atoms[chosen].repeat((3, 3, 1)) for chosen in _layers(atoms))
    distance, _ = cKDTree(upper.positions[:, :2]).query(lower.positions[:, :2])
    x, y = lower.positions[:, :2].T / 10
    drawn = axes.scatter(
        x, y, 0.4 if len(atoms) > 2000 else 3, distance, cmap="viridis_r", linewidths=0, rasterized=True
    )
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label("nearest atom above, in the plane (Å)", color=TEXT, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    dress(axes, "x (nm)", "y (nm)", f"{angle(m):.2f}°, (31, 30)" if m == 30 else f"{angle(m):.2f}°", grid=None)
    axes.set_aspect("equal")
    a, b = atoms.cell.array[:2, :2] / 10
    centre = (a + b) * 1.5
    half = 0.95 * np.linalg.norm(a)
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))


def _layers(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    middle = atoms.positions[:, 2].mean()
    return atoms.positions[:, 2] < middle, atoms.positions[:, 2] > middle


if __name__ == "__main__":
    sys.exit(main())
