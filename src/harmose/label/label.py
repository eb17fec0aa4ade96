"""Labels of many structures from a DFT code, in several processes; an interrupted run can be continued.

The name of a sample is the structure's formula and a hash of the structure and the settings. Finished samples are added
to the store one by one, so an interrupted run loses at most the structures that are being calculated. The next run
skips the names in the store.
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
from harmose.core.electrons import initial_charge, initial_moments
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
"""Largest number of failures that are listed at the end; the store has them all."""

WORKER_PROCESSES = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    "distributed.worker.profile.enabled": False,
}
"""By default Dask's workers return memory at once and are profiled every 10 ms, which makes PySCF 1.5 times slower."""

SCHEDULER_TIMEOUT = "10s"
"""Longest time that a Dask scheduler may take to answer."""


@dataclass(frozen=True)
class LabelSummary:
    """Outcome of a run.

    Attributes:
        finished: number of new samples.
        reused: number of structures that were in the store, or twice in the list.
        failed: reasons of failure, by name.
    """

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
    """Run a DFT code on structures and add the samples to a store, which is made if missing.

    Args:
        structures: molecules or crystals; `info` may have "charge", "spin" (number of unpaired electrons), "group",
            "name" and "source".
        store_path: folder of the store.
        settings: settings of the code, which is chosen by their type.
        workers: number of local processes of one thread each; default: one for each processor.
        scheduler: address of a Dask scheduler whose workers are used instead.
        console: prints a progress bar, remarks and failures; default: none of them.
        retry_failed: True to calculate structures again that failed in an earlier run.
        skip_bad: True to count structures that the code cannot calculate as failed instead of raising an error.

    Raises:
        LabellingError: before any calculation, for a code that is not installed, structures that it cannot calculate
            (an element without basis set, an odd number of electrons), and a store with other settings.
        FormatError: for a full disk; finished samples stay in the store.
    """
    console = console or Console(quiet=True)
    code_of(settings).check_installed()
    tasks, bad = _tasks(structures, settings)
    _raise_for_bad(bad, tasks, skip_bad)
    remark = code_of(settings).remark(settings)
    if remark is not None:
        console.print(escape(remark), highlight=False)
    with _open_store(Path(store_path), tasks, settings) as store:
        done = set(store.names()) & set(tasks)
        failed = {} if retry_failed else {name: why for name, why in store.failures.items() if name in tasks}
        store.remember_failures(bad)
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
    """Name of a structure's sample, such as "C2H6O-0123456789ab": its formula, and a hash.

    The hash depends on elements, positions rounded to 1e-6 angstrom, charge and settings; for crystals on cell and
    periodic directions; for spin collinear on the number of unpaired electrons and the initial moments.
    """
    identity = code_of(settings).identity(settings)
    charge = atoms.info.get("charge", initial_charge(atoms) or 0)
    content = [atoms.numbers.tolist(), _rounded(atoms.positions), str(charge), identity]
    if atoms.pbc.any():
        content += [_rounded(atoms.cell.array), atoms.pbc.tolist()]
    if identity.get("spin") == Spin.COLLINEAR:
        moments = initial_moments(atoms)
        listed = None if moments is None else moments.tolist()
        content += [str(atoms.info.get("spin", listed))]
        if "spin" in atoms.info and listed is not None:  # the SCF starts from them
            content += [str(listed)]
    return f"{atoms.get_chemical_formula()}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def _rounded(values: np.ndarray) -> list:
    return (np.round(values, 6) + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0


def perturbed(atoms: Atoms, n: int, amplitude: float, rng: np.random.Generator) -> list[Atoms]:
    """`n` copies of a structure, each coordinate displaced at random with standard deviation `amplitude` (angstrom)."""
    copies = [atoms.copy() for _ in range(n)]
    for copy in copies:
        copy.positions += rng.normal(scale=amplitude, size=copy.positions.shape)
    return copies


# One structure -------------------------------------------------------------------------------------------------------


def calculate(atoms: Atoms, settings: Settings, basis: BasisSet | None = None, name: str | None = None) -> Sample:
    """The sample of one structure, calculated on one thread by the code that `settings` belong to.

    Raises `LabellingError` if the SCF does not converge, `MatrixError` if the sample fails `check_sample`.
    """
    code = code_of(settings)
    basis = basis or code.basis(set(atoms.numbers.tolist()), settings)
    return code.calculate(atoms, settings, basis, name or sample_name(atoms, settings))


@dataclass(frozen=True)
class Outcome:
    """The sample of a structure, or None and the reason of failure."""

    name: str
    sample: Sample | None
    reason: str = ""


def attempt(name: str, atoms: Atoms, settings: Settings, basis: BasisSet) -> Outcome:
    """`calculate` with every exception as a reason of failure, so that one structure does not end the run."""
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
    """Structures by name, and by name the reasons for those that the code cannot calculate."""
    tasks, bad = {}, {}
    for index, atoms in enumerate(structures):
        name = sample_name(atoms, settings)
        try:
            code_of(settings).check(atoms, settings)
            tasks[name] = atoms
        except HarmoseError as error:
            bad[name] = f"{atoms.info.get('source', f'structure {index}')}: {error}"
    return tasks, bad


def _raise_for_bad(bad: Mapping[str, str], tasks: Mapping[str, Atoms], skip_bad: bool) -> None:
    if not bad and not tasks:
        raise LabellingError("expected at least one structure, got none")
    if bad and not (skip_bad and tasks):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise LabellingError(next(iter(bad.values())) + more)


@contextmanager
def _open_store(path: Path, tasks: Mapping[str, Atoms], settings: Settings) -> Iterator[Store]:
    """The store, with a basis set for all elements. Raises `LabellingError` for one with other settings."""
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
            if (stored := store.metadata.get(key, "nothing")) != expected:
                raise LabellingError(f"{path}: expected a store labelled with {key} {expected}, got one with {stored}")
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
    """Calculate the structures and store each sample as soon as it is finished; return reasons of failure by name."""
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
                elif outcome.name not in store:  # another run may have stored it meanwhile
                    store.append(outcome.sample, check=False)
                text = f"Labelling ({len(failed)} failed)" if failed else "Labelling"
                progress.update(bar, advance=1, description=text)
    return failed


def _outcomes(
    pending: Mapping[str, Atoms], settings: Settings, basis: BasisSet, workers: int | None, scheduler: str | None
) -> Generator[Outcome, None, None]:
    """Yield outcomes as they finish; each worker has at most one structure waiting."""
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
    """Make a worker ignore Ctrl-C, which a terminal also sends to workers; each would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    """Dask client of the scheduler at this address, or of local processes that end with the `with` block."""
    try:
        if scheduler is not None:
            with Client(scheduler, timeout=SCHEDULER_TIMEOUT, set_as_default=False) as client:
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
        raise LabellingError(f"cannot use {where}: {error}") from None
