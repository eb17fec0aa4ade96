"""SCF cycles from a model's prediction, from PySCF's own guesses, and from the exact H with random errors.

    python benchmarks/scf_start.py MODEL STRUCTURES|STORE [--molecules N] [--iterations diis damped plain] [--out DIR]
    python benchmarks/scf_start.py - STORE ...                  without a model: guesses and random errors alone

From a store, the first molecules of its test split (else val, else all) are used, with the settings of its labels. Each
start is converged by PySCF's DIIS and by damped iteration (F <- (F + F_last) / 2); minao and the prediction also by
plain iteration. Thresholds are those of PySCF: energy 1e-9 Hartree, orbital gradient 3e-5. Cycles are counted as PySCF
does: Fock builds after that of the guess, without the last check. The random errors are Gaussian and independent for
each element of the matrix, unlike those of a model. Writes scf_start.csv and scf_start.png into DIR and prints both
tables.
"""

import argparse
import csv
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase import Atoms

import harmose
from harmose.core.blocks import BlockMatrix
from harmose.data.store import Store
from harmose.errors import OutsideDomain
from harmose.evaluate.style import DFT, FULL, STAGE1, dress, legend, log_ticks, new_figure, png
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set, mean_field, molecule, to_blocks
from harmose.io.structures import read_structures
from harmose.scf.initial_guess import GUESSES, compare_guesses, matrix, model_settings
from harmose.units import HARTREE, MICRO_HARTREE

NOISE = (0.0, 1.0, 10.0, 100.0, 1000.0)
"""Mean absolute errors that are added to the exact H, in micro-Hartree."""
ITERATIONS = {"diis": (None, 100), "damped": (0.5, 100), "plain": (0.0, 30)}
"""Damping, and maximum number of cycles."""
TARGET = 0.35
"""Share of the cycles from minao that is marked in the figure."""


@dataclass(frozen=True)
class Row:
    """One SCF; `error` is the mean absolute error of the starting H in micro-Hartree."""

    molecule: str
    iteration: str
    guess: str
    cycles: int
    converged: bool
    refused: bool
    energy: float
    error: float = float("nan")


class FixedModel:
    """A model that predicts this H."""

    def __init__(self, h: BlockMatrix, settings: PySCFSettings) -> None:
        self.h, self.card = h, SimpleNamespace(basis=h.basis, spin=settings.spin, settings=settings.to_dict())

    def predict(self, atoms: Atoms) -> BlockMatrix:
        return self.h


def label_settings(settings: dict[str, Any]) -> PySCFSettings:
    names = {k: v for k, v in settings.items() if k in PySCFSettings.__dataclass_fields__}
    return PySCFSettings(**{**names, "convergence": 1e-9, "convergence_gradient": None})


def molecules(path: Path, n: int, largest: int) -> tuple[dict[str, Atoms], dict[str, Any]]:
    """At most `n` structures by name, with at most `largest` orbitals, and the settings of their labels if any."""
    if not (path / "data.mdb").is_file():
        return {f"{path.stem}-{k}": atoms for k, atoms in enumerate(read_structures(path)[:n])}, {}
    with Store.open(path) as store:
        names = store.splits.get("test") or store.splits.get("val") or store.names()
        samples = ((name, store[name]) for name in names)
        small = ((name, sample.structure) for name, sample in samples if sample.hamiltonian.n_orbitals <= largest)
        return dict(pair for pair, _ in zip(small, range(n), strict=False)), dict(store.metadata)


def exact(atoms: Atoms, settings: PySCFSettings) -> BlockMatrix:
    mol = molecule(atoms, settings.basis, settings.spin)
    mf = mean_field(mol, replace(settings, convergence=1e-12, convergence_gradient=1e-7)).run()
    return to_blocks(mf.get_fock(), zeros(atoms, basis_set(settings.basis, set(atoms.numbers.tolist())), settings.spin))


def with_error(h: BlockMatrix, error: float, seed: int) -> BlockMatrix:
    """`h` with a Gaussian error of this mean size (micro-Hartree) in every element."""
    spread = error * MICRO_HARTREE * np.sqrt(np.pi / 2)
    drawn = h.with_values(np.random.default_rng(seed).normal(scale=spread, size=h.values.shape)).dense()
    _, row, col = h.indices
    symmetric = (drawn + drawn.T) / 2
    return h.with_values(
        h.values + (symmetric * error * MICRO_HARTREE / max(np.abs(symmetric).mean(), 1e-30))[None, row, col]
    )


def measure(name: str, atoms: Atoms, model: Any, settings: PySCFSettings, iterations: Sequence[str]) -> Iterator[Row]:
    """All starts of one molecule."""

    def rows(model: Any, guesses: Sequence[str], iteration: str, error: float, label: str = "") -> Iterator[Row]:
        damping, max_cycle = ITERATIONS[iteration]
        limits = replace(settings, max_cycle=max_cycle)
        prediction, *others = compare_guesses(model, atoms, guesses, limits, damping)
        for run in ([replace(prediction, guess=label)] if label else []) + others:
            own = error if run.guess == label else np.nan
            yield Row(name, iteration, run.guess, run.cycles, run.converged, run.refused, run.energy, own)

    h = exact(atoms, settings)
    for error in NOISE:
        noisy = FixedModel(with_error(h, error, seed=1), settings)
        for iteration in (name for name in iterations if name != "plain"):
            yield from rows(noisy, (), iteration, error, f"exact +- {error:g}")
    predicted, label, error = FixedModel(h, settings), "", np.nan
    if model is not None:
        predicted, label = FixedModel(model.predict(atoms), settings), "prediction"
        mol = molecule(atoms, settings.basis, settings.spin)
        error = float(np.abs(matrix(predicted.h, mol) - matrix(h, mol)).mean()) * HARTREE / MICRO_HARTREE
    for iteration in iterations:
        yield from rows(predicted, ("minao",) if iteration == "plain" else GUESSES, iteration, error, label)


def table(rows: Sequence[Row], iteration: str) -> str:
    """Mean cycles of each start, compared with those of minao for the same molecules."""
    mine = [row for row in rows if row.iteration == iteration]
    minao = {row.molecule: row for row in mine if row.guess == "minao"}
    lines = [
        f"{iteration:<20} molecules   cycles           of minao's   worst: more than minao   not converged   refused"
    ]
    for guess in dict.fromkeys(row.guess for row in mine):
        of = [row for row in mine if row.guess == guess]
        cycles = [row.cycles for row in of if row.converged]
        pairs = [(row, minao[row.molecule].cycles) for row in of if row.converged and minao[row.molecule].converged]
        counts = f"{len(of):9d}"
        if cycles:
            counts += f"   {statistics.mean(cycles):6.2f} ({min(cycles)} to {max(cycles)})"
        if pairs:
            share = statistics.mean(row.cycles / n for row, n in pairs)
            counts += f"   {share:6.1%}   {max(row.cycles + row.refused - n for row, n in pairs):+8d}"
        failed = sum(not row.converged for row in of)
        lines.append(f"{guess:<20} {counts:<60} {failed:14d} {sum(row.refused for row in of):10d}")
    return "\n".join(lines)


def disagreement(rows: Sequence[Row]) -> float:
    """Largest difference (Hartree) of final energies from that of minao."""
    minao = {row.molecule: row.energy for row in reversed(rows) if row.guess == "minao" and row.converged}
    return max(abs(row.energy - minao[row.molecule]) for row in rows if row.converged and row.molecule in minao)


def figure(rows: Sequence[Row], title: str) -> bytes:
    """Cycles relative to those from minao: of each guess, and over the error of the starting H."""
    mine = [row for row in rows if row.iteration == "diis" and row.converged]
    minao = {row.molecule: row.cycles for row in mine if row.guess == "minao"}
    drawn = new_figure(8.4, 3.6)
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1.25), sharey=True)
    names = [g for g in ("prediction", *GUESSES) if any(row.guess == g for row in mine)]
    for k, name in enumerate(names):
        shares = [row.cycles / minao[row.molecule] for row in mine if row.guess == name]
        colour = FULL if name == "prediction" else DFT
        left.bar(k, statistics.mean(shares), 0.62, color=colour, alpha=0.85)
        left.plot([k, k], [min(shares), max(shares)], color=STAGE1, linewidth=2)
    left.set_xticks(range(len(names)), names, rotation=40, ha="right")
    dress(left, "", "SCF cycles / those of minao", title, grid="y")
    noise = [row for row in mine if row.guess.startswith("exact +- ") and row.error > 0]
    levels = sorted({row.error for row in noise})
    shares = [[row.cycles / minao[row.molecule] for row in noise if row.error == x] for x in levels]
    right.fill_between(levels, [min(s) for s in shares], [max(s) for s in shares], color=DFT, alpha=0.12, linewidth=0)
    right.plot(
        levels, [statistics.mean(s) for s in shares], "o-", color=DFT, markersize=4, label="exact H with random errors"
    )
    own = [row for row in mine if row.guess == "prediction"]
    x, y = [row.error for row in own], [row.cycles / minao[row.molecule] for row in own]
    if own:
        right.plot(x, y, "D", color=FULL, markersize=5, label="prediction")
    right.axhline(TARGET, color=STAGE1, linewidth=1, linestyle="--", label=f"{TARGET:.0%}")
    right.set_xscale("log")
    right.set_xlim(min([*levels, *x]) / 2, max([*levels, *x]) * 2)
    log_ticks(right.xaxis)
    dress(right, "mean absolute error of the starting H (µEh)", "", "Cycles and error")
    legend(right, loc="upper left")
    left.set_ylim(0)
    return png(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("source", type=Path)
    parser.add_argument("--molecules", type=int, default=6)
    parser.add_argument("--max-orbitals", type=int, default=10**6)
    parser.add_argument("--grid-level", type=int)
    parser.add_argument("--iterations", nargs="+", choices=ITERATIONS, default=list(ITERATIONS))
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OutsideDomain)
    structures, labels = molecules(options.source, options.molecules, options.max_orbitals)
    model = None if options.model == "-" else harmose.load(options.model)
    settings = label_settings(labels) if model is None else model_settings(model)
    if options.grid_level is not None:
        settings = replace(settings, grid_level=options.grid_level)
    rows = []
    for name, atoms in structures.items():
        rows.extend(measure(name, atoms, model, settings, options.iterations))
        print(f"{name}: {len(rows)} SCF runs so far", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "scf_start.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, Row.__dataclass_fields__)
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)
    title = f"{len(structures)} molecules of {options.source.stem}"
    (options.out / "scf_start.png").write_bytes(figure(rows, title))
    print("\n\n".join(table(rows, iteration) for iteration in options.iterations))
    print(f"\nlargest difference of final energies from minao's: {disagreement(rows):.1e} Hartree")


if __name__ == "__main__":
    main()
