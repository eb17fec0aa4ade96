"""Random splits of a store, and merging of stores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harmose.core.basis import BasisSet
from harmose.core.radial import RadialBasis
from harmose.data.store import Store, new_store
from harmose.errors import ConfigError, FormatError


def split(store: Store, fractions: Mapping[str, float], seed: int, by: str | None = None) -> dict[str, list[str]]:
    """Names of the samples of each split, drawn at random and in the store's order; nothing is written.

    `fractions` has the share of each split; the samples beyond their sum are in no split. With `by`, samples with the
    same value of this provenance entry stay in one split, so the shares are approximate; for "group", samples without
    this entry are grouped by formula. Raises `ConfigError` for impossible shares, `FormatError` for a sample without
    the entry.
    """
    if not fractions or any(not 0 <= share <= 1 for share in fractions.values()) or sum(fractions.values()) > 1 + 1e-9:
        raise ConfigError(f"expected shares between 0 and 1 with a sum of at most 1, got {dict(fractions)}")
    groups: dict[str, list[int]] = {}
    names = store.names()
    for index, name in enumerate(names):
        groups.setdefault(_group(store, name, by), []).append(index)
    shares = {**fractions, None: max(0.0, 1 - sum(fractions.values()))}
    missing = {key: share * len(names) for key, share in shares.items()}
    chosen: dict[str | None, list[int]] = {key: [] for key in shares}
    keys = list(groups)
    for k in np.random.default_rng(seed).permutation(len(keys)):
        members = groups[keys[k]]
        target = max(missing, key=lambda key: missing[key])
        missing[target] -= len(members)
        chosen[target] += members
    return {key: [names[k] for k in sorted(chosen[key])] for key in fractions}


def _group(store: Store, name: str, by: str | None) -> str:
    if by is None:
        return name
    provenance = store.provenance(name)
    if by == "group" and by not in provenance:  # samples from other programs
        return store[name].structure.get_chemical_formula()
    if by not in provenance:
        raise FormatError(f"{store.path}: sample {name!r} has no {by!r} in its provenance")
    return str(provenance[by])


def merge(stores: Sequence[Store], out: str | Path) -> None:
    """Write a new store with all samples, failures and splits of the stores; it appears complete or not at all.

    Spin kind and settings (`metadata`) must be the same, and so must the basis sets of elements that two stores share.
    Raises `FormatError` for other spin kinds or settings and for a name in two stores, `BasisError` for other basis
    sets.
    """
    if not stores:
        raise FormatError("expected at least one store to merge, got none")
    first = stores[0]
    basis = first.basis
    owner: dict[str, Store] = {}
    splits: dict[str, list[str]] = {}
    for store in stores:
        _check_same_settings(first, store)
        basis = basis.merged(store.basis)
        twice = [name for name in store.names() if name in owner]
        if twice:
            raise FormatError(
                f"{store.path}: {len(twice)} of its names are also in {owner[twice[0]].path}: "
                f"{', '.join(map(repr, twice[:3]))}{', ...' if len(twice) > 3 else ''}"
            )
        owner |= dict.fromkeys(store.names(), store)
        for name, samples in store.splits.items():
            splits.setdefault(name, []).extend(samples)
    with new_store(out, basis, first.spin, first.metadata) as merged:
        merged.extend_records((name, store.record(name)) for name, store in owner.items())
        for store in stores:
            merged.remember_failures({name: why for name, why in store.failures.items() if name not in owner})
        merged.set_splits(splits)
        radial = _radial_functions(basis, stores)
        if radial is not None:
            merged.set_radial(radial)


def _radial_functions(basis: BasisSet, stores: Sequence[Store]) -> RadialBasis | None:
    """Return the radial functions of all elements of `basis`; None if no store has those of one of them."""
    functions = {}
    for radial in (store.radial for store in stores):
        functions |= {} if radial is None else dict(radial.functions)
    return RadialBasis(basis, functions) if functions.keys() == set(basis.elements) else None


def _check_same_settings(a: Store, b: Store) -> None:
    if a.spin is not b.spin:
        raise FormatError(f"expected stores of one spin kind, got {a.spin} in {a.path} and {b.spin} in {b.path}")
    x, y = a.metadata, b.metadata
    for key in sorted({*x, *y}):
        if x.get(key) != y.get(key):
            raise FormatError(
                f"expected stores with the same settings, got {key} = {x.get(key)!r} in {a.path} and {y.get(key)!r} in "
                f"{b.path}"
            )
