"""Bands and densities of states as comma-separated values, with units in the header."""

from collections.abc import Mapping, Sequence

import numpy as np

from harmose.physics.bands import Bands
from harmose.physics.dos import DensityOfStates

SPINS = ("up", "down")


def bands_csv(series: Mapping[str, Bands], notes: Sequence[str] = ()) -> str:
    """One line for each k-point: x, k, the letter of a special point, and the band energies of each series.

    Energies are relative to the Fermi level of the first series (unchanged if it has none). All series are at the same
    k-points. `notes` become comments at the top.
    """
    first = next(iter(series.values()))
    zero = first.fermi_level or 0.0
    letters = np.full(len(first.x), "", dtype=object)
    for tick, label in zip(first.ticks, first.labels):
        at = np.flatnonzero(np.abs(first.x - tick) < 1e-9)
        letters[at] = label.split("|")[-1]
        letters[at[0]] = label.split("|")[0]
    columns = ["x (1/angstrom)", "k1", "k2", "k3", "point"]
    blocks = []
    for name, bands in series.items():
        for spin, energies in zip(_spins(bands.by_spin), bands.by_spin):
            columns += [f"{name}{spin} {n + 1} (eV)" for n in range(energies.shape[1])]
            blocks.append(energies - zero)
    energies = np.concatenate(blocks, axis=1)
    if first.fermi_level is None:
        origin = "energies in eV on the scale of H, since there is no Fermi level"
    else:
        origin = f"energies in eV from the Fermi level, {zero:.6f} eV on the scale of H ({next(iter(series))})"
    rows = (
        [f"{x:.8f}", *(f"{k:.8f}" for k in point), letter, *(f"{e:.6f}" for e in levels)]
        for x, point, letter, levels in zip(first.x, first.kpoints, letters, energies)
    )
    return _text([*notes, "k in fractions of the reciprocal lattice vectors", origin], columns, rows)


def dos_csv(series: Mapping[str, DensityOfStates], notes: Sequence[str] = ()) -> str:
    """One line for each energy: the total and the projections of each series, in states per eV and cell.

    Energies are relative to the Fermi level of each series; all series have the same relative energies.
    """
    first = next(iter(series.values()))
    columns, values = ["energy (eV)"], [first.relative]
    levels = []
    for name, density in series.items():
        for label, part in {"total": density.total, **density.projections}.items():
            rows = np.atleast_2d(part)
            columns += [f"{name}{spin} {label} (1/eV)" for spin in _spins(rows)]
            values += list(rows)
        level = "none" if density.fermi_level is None else f"{density.fermi_level:.6f} eV on the scale of H"
        levels.append(f"Fermi level, {name}: {level}")
    rows = ([f"{row[0]:.6f}", *(f"{value:.8f}" for value in row[1:])] for row in np.column_stack(values))
    return _text([*notes, "energies in eV from the Fermi level", *levels], columns, rows)


def _spins(components: np.ndarray) -> tuple[str, ...]:
    return tuple(f" {spin}" for spin in SPINS) if len(components) == 2 else ("",)


def _text(notes: Sequence[str], columns: Sequence[str], rows) -> str:
    comments = [f"# {' '.join(note.split())}" for note in notes]
    return "\n".join([*comments, ",".join(columns), *(",".join(row) for row in rows)]) + "\n"
