"""Another H0 for the labels of a store: H, S and everything else stay as they are."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ase import Atoms
from threadpoolctl import threadpool_limits

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import PriorKind, Sample
from harmose.data.store import Store, new_store
from harmose.errors import FormatError
from harmose.io import pyscf

AT_ONCE = 64
"""Samples that are read, given to the processes and written together."""


def replace_priors(store: Store, out: str | Path, kind: PriorKind, workers: int = 1) -> Iterator[str]:
    """Write a new store with H0 of another kind, and yield the name of each sample when it is written.

    Raises `FormatError` for labels of another code than PySCF.

    Args:
        store: labels of PySCF.
        out: the new store; it appears complete or not at all.
        kind: exact, spherical or tabulated (`PySCFSettings.prior`).
        workers: number of processes.
    """
    metadata = store.metadata
    if metadata.get("code") != "pyscf":
        raise FormatError(f"{store.path}: expected labels of PySCF, whose H0 is computed, got {metadata.get('code')}")
    known = {f.name for f in fields(pyscf.PySCFSettings)}
    settings = replace(pyscf.PySCFSettings(**{k: v for k, v in metadata.items() if k in known}), prior=kind)
    changed = _with_kind(metadata, kind)
    with (
        new_store(out, store.basis, store.spin, changed) as target,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        for names in _parts(store.names()):
            samples = [store[name] for name in names]
            tasks = [(sample.structure, settings, store.basis) for sample in samples]
            pairs = zip(samples, pool.map(_prior, tasks), strict=True)
            target.extend(_with_prior(sample, h0, kind) for sample, h0 in pairs)
            yield from names
        target.remember_failures(store.failures)
        target.set_splits(store.splits)
        if store.radial is not None:
            target.set_radial(store.radial)


def _with_prior(sample: Sample, h0: BlockMatrix, kind: str) -> Sample:
    own = h0 if sample.prior is None else sample.prior.with_values(h0.values)
    return replace(sample, prior=own, provenance=_with_kind(sample.provenance, kind))


def _with_kind(content: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return settings with the kind of H0, which is not named where it is exact, as in `PySCFSettings.to_dict`."""
    others = {key: value for key, value in content.items() if key != "prior"}
    return others if kind == "exact" else others | {"prior": kind}


def _parts(names: list[str]) -> Iterator[list[str]]:
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))


def _prior(task: "tuple[Atoms, pyscf.PySCFSettings, BasisSet]") -> BlockMatrix:
    with threadpool_limits(1):
        return pyscf.prior(*task)
