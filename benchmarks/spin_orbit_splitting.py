"""Spin-orbit splittings, gap and bands of a prediction beside OpenMX's own bands of the same crystal.

    python benchmarks/spin_orbit_splitting.py MODEL STORE FILE.Band [--sample NAME] [--window -3 3]

STORE holds the crystal as OpenMX calculated it, FILE.Band its bands along OpenMX's own path. S of a prediction is computed from
the radial functions that the model keeps, if there are any, else taken from STORE. Columns: the .Band file; H of STORE, which
must give the same; each stage of the model. The two pairs of bands below the gap (valence 1 is the upper one) and the two above
are shown at the special points that split them and where they are split most.
"""

import argparse
import sys
from dataclasses import replace

import numpy as np

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.data.store import Store
from harmose.errors import HarmoseError
from harmose.evaluate.band_metrics import compare_bands
from harmose.evaluate.splittings import NOISE, splittings
from harmose.io.openmx.band_file import read_band_file
from harmose.physics.bands import Bands
from harmose.physics.eigen import eigenvalues

MILLI = 1e3
STAGES = ("regression", "stage1", "full")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("store")
    parser.add_argument("bands")
    parser.add_argument("--sample", help="default: the only one")
    parser.add_argument("--window", type=float, nargs=2, default=(-3.0, 3.0), help="eV from the Fermi level")
    options = parser.parse_args()
    try:
        dft = read_band_file(options.bands, spinor=True)
        with Store.open(options.store) as store:
            sample = store[options.sample or store.names()[0]]
        model = harmose.load(options.model)
        predictions = {stage: model.predict(sample.structure, stage=stage, energy_zero="labels") for stage in STAGES}
        s = sample.overlap if model.radial is None else model.overlap(predictions["full"], sample.structure)
        columns = {".Band": dft, "H of OpenMX": along(sample.hamiltonian, sample.overlap, dft)}
        columns |= {stage: along(h, s, dft) for stage, h in predictions.items()}
        print(summary(columns, dft, tuple(options.window)), "", points(columns, dft), sep="\n")
    except HarmoseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def along(h: BlockMatrix, s: BlockMatrix | None, dft: Bands) -> Bands:
    """Bands of H and S at the k-points of `dft`."""
    return replace(dft, energies=eigenvalues(h, s, dft.kpoints), fermi_level=None)


def summary(columns: dict[str, Bands], dft: Bands, window: tuple[float, float]) -> str:
    """Gap and errors of each column, as Markdown."""
    titles = ("gap on the path (eV)", "bands (meV)", "largest (meV)", "ghost states")
    titles += ("splittings (meV)", "in % of their mean", "largest error (meV)")
    rows = [f"| {window[0]:g} to {window[1]:g} eV | " + " | ".join(titles) + " |", "|" + " --- |" * (len(titles) + 1)]
    for name, own in columns.items():
        errors = compare_bands(own, dft, window)
        aligned = replace(errors.aligned, fermi_level=dft.fermi_level)
        low, high = (dft.required_fermi_level + end for end in window)
        inside = (dft.energies >= low) & (dft.energies <= high)
        worst = np.abs(aligned.energies - dft.energies)[inside].max()
        split = errors.splittings
        cells = [f"{aligned.gap.indirect:.4f}" if aligned.gap else "", f"{MILLI * (errors.mae or 0):.3g}"]
        cells += [f"{MILLI * worst:.3g}", str(errors.ghost_states)]
        if split is not None:
            cells += [f"{MILLI * split.mae:.3g} of {MILLI * split.size:.1f}", f"{100 * split.relative:.2g}"]
            cells += [f"{MILLI * split.worst:.3g}"]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def points(columns: dict[str, Bands], dft: Bands) -> str:
    """Splittings of the two pairs of bands below the gap and the two above, by column, as Markdown."""
    first_empty = int((dft.energies[0] <= dft.required_fermi_level).sum()) // 2
    rows = ["| pair of bands, k | " + " | ".join(f"{name} (meV)" for name in columns) + " | error (%) |"]
    rows.append("|" + " --- |" * (len(columns) + 2))
    for pair in range(first_empty - 2, first_empty + 2):
        below = pair < first_empty
        name = f"valence {first_empty - pair}" if below else f"conduction {pair - first_empty + 1}"
        for label, k in special(dft, pair):
            values = [MILLI * splittings(own)[k, pair] for own in columns.values()]
            error = f"{100 * (values[-1] / values[0] - 1):+.2f}"
            rows.append(f"| {name}, {label} | " + " | ".join(f"{x:.2f}" for x in values) + f" | {error} |")
    return "\n".join(rows)


def special(dft: Bands, pair: int) -> list[tuple[str, int]]:
    """Names and numbers of the special points that split a pair, each once, and of the k-point where it is split most."""
    split = splittings(dft)[:, pair]
    at = {label: int(np.abs(dft.x - tick).argmin()) for label, tick in zip(dft.labels, dft.ticks)}
    named = [(label, k) for label, k in at.items() if split[k] > NOISE]
    k = int(split.argmax())
    return named if k in at.values() else [*named, (f"({' '.join(f'{x:.3f}' for x in dft.kpoints[k])})", k)]


if __name__ == "__main__":
    sys.exit(main())
