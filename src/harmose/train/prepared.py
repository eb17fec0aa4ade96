"""Training sets that do not fit into memory: prepared part after part, and kept in a folder of files that are mapped into memory.

    parts/       graphs and targets of the samples, from which the regression is fitted; removed at the end
    arrays/      what the network reads of each sample, and what the regression leaves of it (`stored_samples`)
    index        names and sizes of the samples
    fit          regression, normalizer and training domain

The folder is named after a digest of the samples' records, of what is learned of them, and of the code that prepares them. It is
whole once the index is there, which is written last. Parts that an interrupted preparation has made are used again.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from threadpoolctl import threadpool_limits

from harmose.core.moments import original_name
from harmose.data.record import n_pairs as pairs_of_record
from harmose.data.record import read_header
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, HarmoseError
from harmose.inference.checkpoint import write_tensors
from harmose.kernel_regression.domain_in_parts import DomainFit
from harmose.kernel_regression.fit_in_parts import LeftOut, Parts, fit_in_parts
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training import Training
from harmose.kernel_regression.training_domain import TrainingDomain
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings
from harmose.representation.normalizer import BlockRows, Normalizer, ScaleTable, fit_normalizer_to_rows
from harmose.train.dataset import Dataset
from harmose.train.fit import FILE, MANY_FORMULAS, Fit, check_elements, read_fit, write_fit
from harmose.train.part_files import PAIRS, Change, Part, compute_part, read_part, write_part
from harmose.train.prepared_sets import INDEX, size_of
from harmose.train.sample_set import choose, describe
from harmose.train.stored_samples import Sizes, StoredSamples

PARTS, ARRAYS, LOCK = "parts", "arrays", "lock"

BYTES_PER_PAIR = 15 * 10**4
"""Memory that a fit needs for each pair of its samples, graphs and targets included."""
SCALE_ROWS = 20_000
"""Largest number of blocks of a kind whose residuals the scales are computed from."""

Show = Callable[[str, float, str], None]
"""Called with the name of the work, the fraction that is done, and a text."""


@dataclass(frozen=True)
class Preparation:
    """A training set that is to be prepared, and how.

    Attributes:
        store: the store.
        names: names of the training samples.
        space: irreps of the blocks.
        target: what is learned.
        kind: kind of the regression: "kernel", "pairs", "none"; "correction" of a model's regression; "keep" for the model's own.
        sparse_points: largest number of sparse points of a pair type, or None.
        memory: bytes that may be used.
        n_processes: number of processes and threads.
        change: changes the targets, for trainings that start from a model.
        known_density: mean density by species of the model's regression.
    """

    store: Store
    names: Sequence[str]
    space: BlockIrreps
    target: TargetSettings
    kind: str = "kernel"
    sparse_points: int | None = None
    memory: int = 2 * 10**9
    n_processes: int = 1
    change: Change | None = None
    known_density: Mapping[int, np.ndarray] | None = None


def fits_into_memory(store: Store, names: Sequence[str], memory: int) -> bool:
    """Return True if the samples can be prepared as a whole."""
    n, most = 0, memory // BYTES_PER_PAIR
    for name in names:
        n += pairs_of_record(store.record(name))
        if n > most:
            return False
    return True


def is_prepared(folder: Path) -> bool:
    """Return True if a folder holds prepared samples, whole."""
    return (folder / INDEX).is_file()


def prepare_in_parts(
    p: Preparation,
    folder: Path,
    finish: Callable[[Normalizer | None, TrainingDomain, KernelRegression | None], Fit],
    show: Show,
) -> None:
    """Prepare a training set in a folder; what an interrupted preparation has left there is used again.

    Args:
        p: what is prepared.
        folder: the folder, made if it is missing.
        finish: makes the fit of normalizer (None without a fit of its own), training domain and regression.
        show: called with the progress.

    Raises:
        ConfigError: for a full disk.
        HarmoseError: errors of `compute_targets`, which name the sample.
    """
    with _locked(folder), _full_disk_is_named(folder):
        if is_prepared(folder):
            shutil.rmtree(folder / PARTS, ignore_errors=True)  # of a run that was killed at its very end
            return
        parts = _PartsOnDisk(p, folder / PARTS)
        parts.make(show)
        check_elements(p.space, list(parts.n_atoms), p.store.path)
        stored = StoredSamples(folder / ARRAYS, p.space, parts.sizes, _operators(p.target))
        _check_space(folder, stored.n_bytes)
        stored.create()
        domain = _write_graphs(p, parts, stored, show)
        shifts, regression = None, None
        if p.kind == "none":
            shifts = _subtract_means(parts, stored)
        elif p.kind != "keep":
            regression = _fit(p, parts, stored, show)
        normalizer = None
        if p.kind not in ("keep", "correction"):
            normalizer = fit_normalizer_to_rows(p.space, _rows(p.space, stored))
            normalizer = replace(normalizer, onsite_shift=shifts or {})
        stored.flush()
        write_fit(folder / FILE, finish(normalizer, domain, regression))
        _write_index(folder / INDEX, parts)
        shutil.rmtree(folder / PARTS)


def open_prepared(folder: Path, store: Store, space: BlockIrreps, target: TargetSettings) -> tuple[Fit, Dataset]:
    """Open what `prepare_in_parts` has made; `FormatError` for damaged files."""
    names, sizes = _read_index(folder / INDEX)
    stored = StoredSamples(folder / ARRAYS, space, sizes, _operators(target))
    stored.open()
    fit = read_fit(folder / FILE, space)
    left_out = None if fit.regression is None or fit.regression.kind == "pairs" else stored.left_out
    return fit, Dataset(store, names, fit, target, stored.ready(tuple(names), ScaleTable(fit.normalizer)), left_out)


def _operators(target: TargetSettings) -> tuple[str, ...]:
    return tuple(sorted(set(target.operators)))


class _PartsOnDisk(Sequence[Training]):
    """The parts of a training set, one file each; indexing gives the samples for a fit of the regression."""

    def __init__(self, p: Preparation, folder: Path) -> None:
        self.p, self.folder = p, folder
        groups, originals, n_pairs = _outline(p.store, p.names)
        order = np.argsort(groups, kind="stable")  # first seen first, so that groups stay together
        self.names = [p.names[int(k)] for k in order]
        self.groups, n_pairs = np.stack([groups, originals], 1)[order], n_pairs[order]
        self.starts = _starts(self.groups[:, 0], n_pairs)
        self.n_pairs = n_pairs
        self._last: tuple[int, Part | None] = -1, None  # a part is read for the fit, and again for what it leaves

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Training:  # type: ignore[override]
        return self.part(number).training(self.many_molecules, self.p.sparse_points)

    def part(self, number: int) -> Part:
        """Read a part, unless it was the last one that was read."""
        if self._last[1] is None or self._last[0] != number:
            self._last = -1, None  # before the next one takes its memory
            self._last = number, read_part(self.folder / f"{number:06}.safetensors", self.p.space)
        part = self._last[1]
        assert part is not None
        return part

    def first(self, number: int) -> int:
        """Return the number of the first sample of a part."""
        return int(self.starts[number])

    def make(self, show: Show) -> None:
        """Make the files that are missing, in several processes, and describe the samples."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tasks = [self._task(k) for k in range(len(self))]
        found = []
        with _processes(1 if self.p.change is not None else self.p.n_processes) as apply:
            for k, description in enumerate(apply(_make_part, tasks)):
                found.append(description)
                done = self.starts[k + 1]
                show("preparing", done / len(self.names), f"{done} of {len(self.names)} samples")
        pair_counts, atom_counts, n_elements, blocks, self.descriptors = (np.concatenate(x) for x in zip(*found))
        self.sizes, self.blocks = Sizes(pair_counts, atom_counts, n_elements), blocks
        n_species = len(self.p.space.elements)
        compositions = np.unique(blocks[:, :n_species], axis=0)
        self.many_molecules = len(compositions) >= MANY_FORMULAS
        totals = blocks.sum(0)
        self.n_atoms = {k: int(n) for k, n in enumerate(totals[:n_species]) if n}
        self.n_pairs_of_type = {k: int(n) for k, n in enumerate(totals[n_species:]) if n}

    def _task(self, k: int) -> tuple[Any, ...]:
        rows = slice(self.starts[k], self.starts[k + 1])
        about = self.names[rows], self.groups[rows], self.p.space, self.p.target, self.p.change
        return self.p.store, self.folder / f"{k:06}.safetensors", *about

    def sample_set(self) -> Training:
        """Return the samples that are fitted as a whole first."""
        most = self.p.memory // BYTES_PER_PAIR
        chosen = choose(self.descriptors, self.blocks, self.n_pairs, most)
        names, groups = [self.names[int(k)] for k in chosen], self.groups[chosen]
        part = compute_part(self.p.store, names, groups, self.p.space, self.p.target, self.p.change)
        return part.training(self.many_molecules, self.p.sparse_points)


def _outline(store: Store, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the group and of the original of each sample, and number of its pairs (n,)."""
    groups: dict[str, int] = {}
    originals: dict[str, int] = {}
    out = np.zeros((3, len(names)), dtype=np.int64)
    for k, name in enumerate(names):
        raw, original = store.record(name), original_name(name)
        group = str(read_header(raw)["provenance"].get("group", original))
        numbers = groups.setdefault(group, len(groups)), originals.setdefault(original, len(originals))
        out[:, k] = *numbers, pairs_of_record(raw)
    return out[0], out[1], out[2]


def _starts(group: np.ndarray, n_pairs: np.ndarray) -> np.ndarray:
    """Cut samples, sorted by group (n,), into parts of about `PAIRS` pairs; a group is cut only if it alone has more.

    Returns the first sample of each part, and n.
    """
    before = np.cumsum(n_pairs) - n_pairs
    first = before[np.searchsorted(group, group)]  # pairs before the group of each sample
    part, piece = first // PAIRS, (before - first) // PAIRS
    cuts = (np.diff(part, prepend=-1) != 0) | (np.diff(piece, prepend=0) > 0)
    return np.append(np.flatnonzero(cuts), len(group))


def _make_part(task: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Make the file of a part unless it is there; return sizes, blocks of each kind, and descriptors of its samples."""
    store, file, names, groups, space, target, change = task
    with threadpool_limits(1):
        part = _known_part(file, space, names)
        if part is None:
            part = compute_part(store, names, groups, space, target, change)
            write_part(file, part)
    whole, n_species = part.graph, len(space.elements)
    kinds = np.concatenate([whole.oriented.species, n_species + whole.oriented.pair_type])
    owner, n_kinds = np.concatenate([whole.atom_sample, whole.pair_sample]), n_species + n_species**2
    blocks = np.bincount(owner * n_kinds + kinds, minlength=len(names) * n_kinds).reshape(len(names), -1)
    return whole.pair_counts, whole.atom_counts, part.n_elements, blocks, describe(whole, n_species)


def _known_part(file: Path, space: BlockIrreps, names: Sequence[str]) -> Part | None:
    """Read a part that an interrupted preparation has made; None for none, and for a damaged one."""
    try:
        part = read_part(file, space) if file.exists() else None
    except FormatError:
        return None
    return part if part is not None and part.names == tuple(names) else None


@contextmanager
def _processes(n: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map` that works in n processes, in this one if n is 1."""
    if n == 1:
        yield map
        return
    try:
        with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
            yield pool.map
    except BrokenProcessPool:
        raise HarmoseError(
            "a process that prepares samples has died, perhaps of lack of memory: the same command goes on from where it was; "
            "threads=1 works in one process"
        ) from None


def _write_graphs(p: Preparation, parts: _PartsOnDisk, stored: StoredSamples, show: Show) -> TrainingDomain:
    """Write what is known before the fit, and fit the training domain."""
    domain, n = DomainFit(len(p.space.elements)), len(parts)
    for step, visit in enumerate((domain.add, domain.measure)):
        for k in range(n):
            part = parts.part(k)
            graph = Neighbourhoods(p.space, part.graph.oriented)
            visit(graph, part.owners(parts.many_molecules)[1])
            if step == 0:
                stored.write(parts.first(k), part)
                stored.release()
            show("graphs", (step * n + k + 1) / (2 * n), f"{parts.starts[k + 1]} of {len(parts.names)} samples")
    return domain.domain()


def _fit(p: Preparation, parts: _PartsOnDisk, stored: StoredSamples, show: Show) -> KernelRegression:
    """Fit the regression, and subtract its predictions of samples that were left out."""
    data = Parts(parts.sample_set(), parts, parts.n_pairs_of_type, parts.n_atoms)

    def write(number: int, left_out: LeftOut) -> None:
        stored.subtract(parts.first(number), parts.part(number), left_out)
        stored.release()

    def advance(done: float) -> None:
        show("kernel regression", done, f"{len(parts.names)} samples")

    return fit_in_parts(data, write, p.kind, p.known_density, n_threads=p.n_processes, advance=advance)


def _subtract_means(parts: _PartsOnDisk, stored: StoredSamples) -> dict[int, np.ndarray]:
    """Subtract the mean on-site scalars of each species, and return them."""
    sums: dict[int, np.ndarray] = {}
    space = parts.p.space
    for k in range(len(parts)):
        part = parts.part(k)
        for s, x in part.coefficients.onsite.items():
            layout, species = space.onsite_layout(s), part.graph.oriented.species[part.graph.oriented.atoms[s]]
            for kind in np.unique(species).tolist():
                found = x.numpy()[species == kind, 0, : layout.n_proper].sum(0) * layout.mask[0, : layout.n_proper]
                sums[kind] = sums.get(kind, 0.0) + found
    shifts = Normalizer(space, {}, {}, {kind: x / parts.n_atoms[kind] for kind, x in sums.items()})
    for k in range(len(parts)):
        stored.subtract_shifts(parts.first(k), parts.part(k), shifts)
    return dict(shifts.onsite_shift)


def _rows(space: BlockIrreps, stored: StoredSamples) -> Iterator[BlockRows]:
    """Yield residuals of each pair type and each species, evenly from all where there are very many."""
    start = 0
    pair_type, distance = stored.values("pair_type"), stored.values("distance")
    for k, group in enumerate(space.groups):
        n = int(stored.sizes.pair_counts[:, k].sum())
        own, start = slice(start, start + n), start + n
        for kind in np.unique(pair_type[own]).tolist():
            rows = _evenly(np.flatnonzero(pair_type[own] == kind))
            values = stored.residual(group)[rows].astype(float)
            yield BlockRows(kind, group, values, distance[own][rows].astype(float))
    start, species = 0, stored.values("species")
    for s in range(len(space.shell_types)):
        n = int(stored.sizes.atom_counts[:, s].sum())
        own, start = slice(start, start + n), start + n
        for kind in np.unique(species[own]).tolist():
            rows = _evenly(np.flatnonzero(species[own] == kind))
            yield BlockRows(kind, s, stored.residual(s)[rows].astype(float), np.zeros(0))


def _evenly(rows: np.ndarray) -> np.ndarray:
    return rows if len(rows) <= SCALE_ROWS else rows[np.linspace(0, len(rows) - 1, SCALE_ROWS).astype(int)]


def _write_index(file: Path, parts: _PartsOnDisk) -> None:
    sizes = parts.sizes
    arrays = {"pair_counts": sizes.pair_counts, "atom_counts": sizes.atom_counts, "n_elements": sizes.n_elements}
    write_tensors(file, {k: torch.as_tensor(x) for k, x in arrays.items()} | {"names": _as_bytes(parts.names)})


def _read_index(file: Path) -> tuple[list[str], Sizes]:
    try:
        tensors = load_file(file)
        names = json.loads(bytes(tensors["names"].numpy()))
        arrays = (tensors[name].numpy() for name in ("pair_counts", "atom_counts", "n_elements"))
        return names, Sizes(*arrays)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FormatError(f"{file}: expected the index of prepared samples, got a damaged file ({error})") from None


def _as_bytes(names: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(json.dumps(list(names)).encode(), dtype=np.uint8).copy())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time prepare a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise _cannot_be_written(folder, error) from None
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise _cannot_be_written(folder, error) from None


def _cannot_be_written(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{folder}: cannot be written ({error.strerror}); regression_cache=FOLDER names another place for prepared samples"
    )


def _check_space(folder: Path, n_bytes: int) -> None:
    known = (
        size_of(folder / ARRAYS) if (folder / ARRAYS).is_dir() else 0
    )  # those of a run that was killed are used again
    free = shutil.disk_usage(folder).free + known
    if free < n_bytes:
        raise OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC), f"{n_bytes / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        )


@contextmanager
def _full_disk_is_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        about = f": {error.filename}" if error.filename else ""
        raise ConfigError(
            f"{folder}: no space left for prepared samples{about}; regression_cache=FOLDER names a place on another disk"
        ) from None
