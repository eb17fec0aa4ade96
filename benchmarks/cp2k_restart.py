"""SCF of CP2K from its own guess, from a prediction, and from the converged density itself, which is the lower bound.

    python examples/results/graphene_cells.py cells CELLS
    python benchmarks/cp2k_restart.py graphene-pbe-dzvp CELLS/test.xyz OUT --cells 3

Each cell is converged three times by CP2K on one thread, one run after the other, with the functional, basis set and
potential of the model, and without writing H and S; the other settings are options, by default those of the labels of
graphene-pbe-dzvp. Cycles are CP2K's steps; the first, from any start, only makes a density from the starting
one. Times are the wall time of the program, its processor time, which other programs on the machine do not change, and, from
its table of steps, the wall time of the SCF alone. A prediction costs H, S and the density matrix, timed after loading the
model. OUT keeps the runs; results are printed and written to OUT/results.json, from which runs that are done are not repeated.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from ase import Atoms

import harmose
from harmose.io.basis_sets import overlap
from harmose.io.cp2k.basis_data import find_kinds
from harmose.io.cp2k.input import PROJECT, CP2KSettings, input_file
from harmose.io.restarts import write_restart
from harmose.io.structures import read_structures
from harmose.label.cp2k import data_folder, find_program

GUESSES = ("own", "prediction", "converged")
STEP = re.compile(r"^ +(\d+) +\S+ +\S+ +(\d+\.\d+) +(\S+) +(-?\d+\.\d+) +\S+$", re.MULTILINE)
"""A row of CP2K's table of steps: step, method, mixing, seconds, convergence, energy, change."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--kmesh", type=int, nargs=3, default=(3, 3, 1))
    parser.add_argument("--cutoff", type=float, default=280.0)
    parser.add_argument("--rel-cutoff", type=float, default=35.0)
    parser.add_argument("--guesses", nargs="+", choices=GUESSES, default=GUESSES)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = harmose.load(options.model)
    names = ("functional", "basis", "potential")
    learned = {key: model.card.settings[key] for key in names if model.card.settings.get(key) is not None}
    settings = CP2KSettings(**learned, kmesh=tuple(options.kmesh), cutoff=options.cutoff, rel_cutoff=options.rel_cutoff)
    results = options.out / "results.json"
    rows: list[dict[str, Any]] = json.loads(results.read_text()) if results.is_file() else []
    for k, atoms in enumerate(read_structures(options.structures)[: options.cells]):
        for guess in options.guesses:
            if any((row["cell"], row["guess"]) == (k, guess) for row in rows):
                continue
            folder = options.out / f"{k}-{guess}"
            folder.mkdir(exist_ok=True)
            cost = {"predict_s": 0.0, "predict_cpu_s": 0.0}
            if guess == "prediction":
                cost = predict(model, atoms, settings, folder / f"{PROJECT}-RESTART.kp")
            elif guess == "converged":
                shutil.copy(options.out / f"{k}-own" / f"{PROJECT}-RESTART.kp", folder)
            rows.append({"cell": k, "guess": guess, **cost, **run(folder, atoms, settings, guess)})
            results.write_text(json.dumps(rows, indent=1))
            print(line(rows[-1]), flush=True)
    print("\n" + table(rows))


def predict(model: Any, atoms: Atoms, settings: CP2KSettings, path: Path) -> dict[str, float]:
    """Write the restart of a prediction; return its wall and processor time in seconds."""
    started, used = time.perf_counter(), time.process_time()
    h = model.predict(atoms, energy_zero="labels")
    s = overlap(atoms, h.basis)
    sample = harmose.Sample("cell", atoms, h.basis, h, overlap=s, n_electrons=model.n_electrons(atoms))
    write_restart(path, sample, "cp2k", settings.kmesh, settings.smearing)
    return {"predict_s": time.perf_counter() - started, "predict_cpu_s": time.process_time() - used}


def run(folder: Path, atoms: Atoms, settings: CP2KSettings, guess: str) -> dict[str, Any]:
    """Run CP2K in a folder, and return steps, seconds and total energy (Hartree)."""
    kinds = find_kinds(set(atoms.numbers.tolist()), settings.basis, str(settings.potential), data_folder())
    text = re.sub(r" *&(KS|S)_CSR_WRITE.*?&END \1_CSR_WRITE\n", "", input_file(atoms, settings, kinds), flags=re.DOTALL)
    if guess != "own":
        text = text.replace("SCF_GUESS ATOMIC", "SCF_GUESS RESTART")
    else:  # keep the converged density
        text = text.replace("&RESTART OFF", "&RESTART ON")
    (folder / f"{PROJECT}.inp").write_text(text)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    output = folder / f"{PROJECT}.out"
    output.unlink(missing_ok=True)
    command = [str(find_program()), "-i", f"{PROJECT}.inp", "-o", output.name]
    started, used = time.perf_counter(), _children()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    times = {"wall_s": time.perf_counter() - started, "cpu_s": _children() - used}
    return {**times, **steps(output.read_text())}


def _children() -> float:
    """Return the processor seconds of all programs that this one has run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def steps(text: str) -> dict[str, Any]:
    """Return the number of steps, their seconds, the convergence after each, and the energy, of an output."""
    found = STEP.findall(text)
    return {
        "converged": "SCF run converged" in text,
        "cycles": int(found[-1][0]),
        "scf_s": sum(float(row[1]) for row in found),
        "convergence": [float(row[2]) for row in found],
        "energy": float(found[-1][3]),
    }


def line(row: dict[str, Any]) -> str:
    return (
        f"cell {row['cell']}, {row['guess']}: {row['cycles']} cycles{'' if row['converged'] else ' (not converged)'}, "
        f"SCF {row['scf_s']:.0f} s, program {row['wall_s']:.0f} s (processor {row['cpu_s']:.0f} s), prediction {row['predict_s']:.1f} s "
        f"(processor {row['predict_cpu_s']:.1f} s), "
        f"energy {row['energy']:.8f} Ha"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means over cells as a Markdown table."""
    names = {
        "cpu_s": "processor, s",
        "predict_cpu_s": "prediction, processor, s",
        "wall_s": "wall, s",
        "scf_s": "SCF, wall, s",
    }
    lines = [f"| start | cycles | {' | '.join(names.values())} |", "| --- |" + " --- |" * (len(names) + 1)]
    for guess in GUESSES:
        of_guess = [row for row in rows if row["guess"] == guess]
        if of_guess:
            cycles = ", ".join(str(row["cycles"]) for row in of_guess)
            means = [f"{statistics.mean(row[key] for row in of_guess):.3g}" for key in names]
            lines.append(f"| {guess} | {cycles} | {' | '.join(means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
