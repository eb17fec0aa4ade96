"""Labels from real DFT: a code (`harmose.label`) on many structures, in several processes, resumable after any interruption.

Each structure has a name made of its formula and a hash of itself and the settings. Finished samples are appended to
the store one by one, each all or not at all, so that an interrupted run loses at most the structures in flight; the
next run finds the names of the finished ones and calculates the others.
"""

import hashlib
import json
import logging
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
from ase import Atoms
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, as_completed
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import HarmoseError, LabellingError
from harmose.io.cp2k.input import CP2KSettings
from harmose.io.pyscf.pyscf import PySCFSettings
from harmose.io.structures import read_structures
from harmose.label import Settings, code_of
from harmose.spin import Spin

__all__ = [
    "CP2KSettings",
    "LabelSummary",
    "PySCFSettings",
    "calculate",
    "label",
    "perturbed",
    "read_structures",
    "sample_name",
]


LISTED = 20
"""So many failures are listed at the end; the store knows them all."""


WORKER_PROCESSES = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    "distributed.worker.profile.enabled": False,
}
"""Dask would have workers give memory back at once and be sampled every 10 ms, which makes PySCF half as slow again."""

PATIENCE = "10s"
"""How long a Dask scheduler may take to answer."""


@dataclass(frozen=True)
class LabelSummary:
    """What became of the structures: newly labelled, already in the store or given twice, and why the rest is not."""

    finished: int
    reused: int
    failed: dict[str, str] = field(default_factory=dict)


def label(
    structures: Sequence[Atoms],
    store_path: str | Path,
    settings: Settings,
    workers: int | None = None,
    scheduler: str | None = None,
    console: Console | None = None,
    retry_failed: bool = False,
    skip_bad: bool = False,
) -> LabelSummary:
    """Run the code of `settings` on the structures and append the samples to the store, which is made if missing.

    `workers` processes of one thread each (default: one for each processor), or all workers of the Dask `scheduler` at
    this address. Structures that fail or do not converge are remembered in the store and left out from then on unless
    `retry_failed`. Structures that the code cannot take at all (an element without basis set, for PySCF periodic ones and
    an odd number of electrons) raise `LabellingError` before anything is calculated or written; with `skip_bad` they count
    as failed.

    Raises `LabellingError` for a code that is not installed and for a store that was labelled with other settings, and
    `FormatError` when the disk is full; what is finished stays in the store.
    """
    console = console or Console(quiet=True)
    code_of(settings).ready()
    tasks, bad = _tasks(structures, settings)
    _refuse_bad(bad, tasks, skip_bad)
    remark = code_of(settings).remark(settings)
    if remark is not None:
        console.print(escape(remark), highlight=False)
    with _open_store(Path(store_path), tasks, settings) as store:
        done = set(store.names()) & set(tasks)
        failed = {} if retry_failed else {name: why for name, why in store.failures.items() if name in tasks}
        for name, why in bad.items():
            store.remember_failure(name, why)
        pending = {name: atoms for name, atoms in tasks.items() if name not in done and name not in failed}
        failed |= _calculate_into(store, pending, settings, workers, scheduler, console) | bad
    _list_failures(failed, console)
    finished = len(pending) - len(set(failed) & set(pending))
    return LabelSummary(finished, len(structures) - finished - len(failed), failed)


def _list_failures(failed: Mapping[str, str], console: Console) -> None:
    for name, why in islice(failed.items(), LISTED):
        console.print(f"[yellow]left out[/] {escape(name)}: {escape(why)}", highlight=False, soft_wrap=True)
    if len(failed) > LISTED:
        console.print(f"[yellow]left out[/] {len(failed) - LISTED} more", highlight=False)


def sample_name(atoms: Atoms, settings: Settings) -> str:
    """`C2H6O-0123456789ab`: formula, and a hash of atoms, positions (to 1e-6 angstrom), charge, settings, of a crystal's
    cell and periodic directions, and of unpaired electrons where they count.
    """
    identity = code_of(settings).identity(settings)
    content = [atoms.numbers.tolist(), _rounded(atoms.positions), str(atoms.info.get("charge", 0)), identity]
    if atoms.pbc.any():
        content += [_rounded(atoms.cell.array), atoms.pbc.tolist()]
    if identity.get("spin") == Spin.COLLINEAR:
        content += [str(atoms.info.get("spin"))]
    return f"{atoms.get_chemical_formula()}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def _rounded(values: np.ndarray) -> list:
    return (np.round(values, 6) + 0.0).tolist()  # no negative zeros


def perturbed(atoms: Atoms, n: int, amplitude: float, rng: np.random.Generator) -> list[Atoms]:
    """`n` copies of a structure, every coordinate displaced by a normal deviate of `amplitude` angstrom."""
    copies = [atoms.copy() for _ in range(n)]
    for copy in copies:
        copy.positions += rng.normal(scale=amplitude, size=copy.positions.shape)
    return copies


# One structure -------------------------------------------------------------------------------------------------------


def calculate(atoms: Atoms, settings: Settings, basis: BasisSet | None = None, name: str | None = None) -> Sample:
    """The sample of one structure, calculated by the code of `settings` on one thread.

    Raises `LabellingError` when the SCF does not converge, `MatrixError` when the result is not fit to keep.
    """
    code = code_of(settings)
    basis = basis or code.basis(set(atoms.numbers.tolist()), settings)
    return code.calculate(atoms, settings, basis, name or sample_name(atoms, settings))


@dataclass(frozen=True)
class Outcome:
    """A sample, or why there is none."""

    name: str
    sample: Sample | None
    reason: str = ""


def attempt(name: str, atoms: Atoms, settings: Settings, basis: BasisSet) -> Outcome:
    """`calculate`, with every failure as a reason: one structure must not end the run."""
    try:
        return Outcome(name, calculate(atoms, settings, basis, name))
    except HarmoseError as error:
        return Outcome(name, None, _with_source(str(error), atoms))
    except Exception as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        return Outcome(name, None, _with_source(f"{type(error).__name__}: {reason[0]}", atoms))


def _with_source(reason: str, atoms: Atoms) -> str:
    return f"{atoms.info['source']}: {reason}" if "source" in atoms.info else reason


# All structures ------------------------------------------------------------------------------------------------------


def _tasks(structures: Sequence[Atoms], settings: Settings) -> tuple[dict[str, Atoms], dict[str, str]]:
    """Structures by name, and the reasons of those that cannot be calculated at all."""
    tasks, bad = {}, {}
    for index, atoms in enumerate(structures):
        name = sample_name(atoms, settings)
        try:
            code_of(settings).check(atoms, settings)
            tasks[name] = atoms
        except HarmoseError as error:
            bad[name] = f"{atoms.info.get('source', f'structure {index}')}: {error}"
    return tasks, bad


def _refuse_bad(bad: Mapping[str, str], tasks: Mapping[str, Atoms], skip_bad: bool) -> None:
    if not bad and not tasks:
        raise LabellingError("expected at least one structure, got none")
    if bad and not (skip_bad and tasks):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise LabellingError(next(iter(bad.values())) + more)


@contextmanager
def _open_store(path: Path, tasks: Mapping[str, Atoms], settings: Settings) -> Iterator[Store]:
    """The store with a basis for all elements; `LabellingError` when it was labelled with other settings."""
    elements = {int(z) for atoms in tasks.values() for z in atoms.numbers}
    code = code_of(settings)
    basis, identity = code.basis(elements, settings), code.identity(settings)
    spin = Spin(identity.get("spin", Spin.NONE))
    try:
        exists = path.exists()
        store = Store.open(path, writable=True) if exists else Store.create(path, basis, spin, identity)
    except OSError as error:
        raise LabellingError(f"{path}: cannot write a store there: {error.strerror}") from None
    with store:
        if store.spin is not spin:
            raise LabellingError(f"{path}: expected a store of spin {spin}, got one of {store.spin}")
        for key, expected in identity.items():
            if store.metadata.get(key, "nothing") != expected:
                found = store.metadata.get(key, "nothing")
                raise LabellingError(f"{path}: expected a store labelled with {key} {expected}, got one with {found}")
        if not elements <= set(store.basis.elements):
            store.extend_basis(basis)
        yield store


def _calculate_into(
    store: Store,
    pending: Mapping[str, Atoms],
    settings: Settings,
    workers: int | None,
    scheduler: str | None,
    console: Console,
) -> dict[str, str]:
    """Label the pending structures; the store holds each as soon as it is finished. Returns the failures."""
    failed = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, *left, console=console, speed_estimate_period=3600) as progress:
        bar = progress.add_task("Labelling", total=len(pending))
        with closing(_outcomes(pending, settings, store.basis, workers, scheduler)) as outcomes:
            for outcome in outcomes:
                if outcome.sample is None:
                    failed[outcome.name] = outcome.reason
                    store.remember_failure(outcome.name, outcome.reason)
                elif outcome.name not in store:  # another run may have been faster
                    store.append(outcome.sample, check=False)
                text = f"Labelling ({len(failed)} failed)" if failed else "Labelling"
                progress.update(bar, advance=1, description=text)
    return failed


def _outcomes(
    pending: Mapping[str, Atoms], settings: Settings, basis: BasisSet, workers: int | None, scheduler: str | None
) -> Generator[Outcome, None, None]:
    """Outcomes as they come, with at most two structures for each worker on their way."""
    workers = min(workers or CPU_COUNT, len(pending))
    if scheduler is None and workers <= 1:
        yield from (attempt(name, atoms, settings, basis) for name, atoms in pending.items())
        return
    todo, names = iter(pending.items()), {}
    with _client(workers, scheduler) as client:
        running = as_completed(loop=client.loop)

        def refill() -> None:
            room = 2 * max(1, _n_threads(client)) - running.count()
            for name, atoms in islice(todo, room):
                future = client.submit(attempt, name, atoms, settings, basis, pure=False)
                names[future.key] = name
                running.add(future)

        refill()
        for future in running:
            outcome = _result(future, names.pop(future.key))
            future.release()
            refill()
            yield outcome


def _n_threads(client: Any) -> int:
    return sum(client.nthreads().values())


def _result(future: Any, name: str) -> Outcome:
    if future.status == "finished":
        return future.result()
    return Outcome(name, None, f"the worker process died ({type(future.exception()).__name__})")


def _leave_interrupts_to_parent() -> None:
    """A terminal sends Ctrl-C to the workers too, which would each answer with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the scheduler at this address, or of new local processes that end with the block."""
    try:
        if scheduler is not None:
            with Client(scheduler, timeout=PATIENCE, set_as_default=False) as client:
                yield client
            return
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
        with dask.config.set(WORKER_PROCESSES):
            cluster = LocalCluster(**options, silence_logs=logging.CRITICAL)
        with cluster, Client(cluster, set_as_default=False) as client:
            client.run(_leave_interrupts_to_parent)
            yield client
    except OSError as error:
        where = f"the Dask scheduler {scheduler}" if scheduler is not None else "local worker processes"
        raise LabellingError(f"cannot work with {where}: {error}") from None
