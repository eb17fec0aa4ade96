"""Checks before a training: a store must hold what the configuration needs."""

from collections.abc import Sequence
from typing import Any

from harmose.core.radial import RadialBasis
from harmose.core.species import atomic_number_of, symbol_of
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError
from harmose.inference.energy_zero import n_electrons, stated_valence, valence_electrons
from harmose.io.basis_sets import overlap, radial_functions
from harmose.io.radial_files import check_functions, pao_names
from harmose.spin import Spin
from harmose.train.config import TrainConfig


def check(store: Store, config: TrainConfig) -> None:
    """Raise `FormatError` or `ConfigError` for a store that the configuration cannot be trained on."""
    _check_splits(store, config)
    _check_one_set_of_orbitals(store)
    if config.overlap_filter and store.spin is not Spin.NONE:
        raise ConfigError(f"{store.path}: expected overlap_filter 0 with labels of spin {store.spin}")
    radial = training_functions(store, config)
    if config.energy_zero == "fermi_of_prediction":
        _check_solvable(store, store.splits[config.train_split], radial)


def _check_splits(store: Store, config: TrainConfig) -> None:
    for name in (config.train_split, config.val_split):
        if not store.splits.get(name):
            known = ", ".join(store.splits) or "none"
            raise FormatError(f"{store.path}: expected samples in the split {name}; the store's splits: {known}")
    training_names(store, config)


def _check_one_set_of_orbitals(store: Store) -> None:
    several = [z for z in store.basis.elements if len(store.basis.sets_of(atomic_number_of(z))) > 1]
    if several:
        got = " and ".join(map(symbol_of, several))
        raise FormatError(f"{store.path}: expected one set of orbitals for each element to train on, got {got}; give all atoms of "
                          "an element the same basis set")  # fmt: skip


def training_names(store: Store, config: TrainConfig) -> list[str]:
    """Return the names of the first `train_samples` of the training split."""
    names, n = store.splits[config.train_split], config.train_samples
    if n is not None and n > len(names):
        raise ConfigError(f"train_samples: expected at most the {len(names)} of {config.train_split}, got {n}")
    return names[:n]


def training_functions(store: Store, config: TrainConfig) -> RadialBasis | None:
    """Return the radial functions that the model keeps: those of the files in `basis`, or the store's; None without.

    Raises `BasisError` unless S of the first training sample is that of the files.
    """
    if not config.basis:
        return store.radial
    first = store.splits[config.train_split][0]
    radial = radial_functions(store.basis, config.basis, pao_names(store.provenance(first)))
    check_functions(radial, store[first])
    return radial


def _check_solvable(store: Store, names: Sequence[str], radial: RadialBasis | None) -> None:
    """Raise an error now, not after the training, unless S and the number of electrons are known: E_F needs them."""
    structure = store[names[0]].structure
    n_electrons(label_settings(store, names), store.basis, store.spin, structure)
    overlap(structure, store.basis if radial is None else radial)


def label_settings(store: Store, names: Sequence[str]) -> dict[str, Any]:
    """Return the store's metadata and, where the labels say them, the valence electrons of each element (`valence`).

    They are in the provenance of samples of codes whose files have them, or follow from the samples' numbers of electrons. The
    Fermi level of a predicted crystal needs them. For labels of PySCF, PySCF counts them. Labels of OpenMX also say the names
    of their basis sets (`pao`).
    """
    pao = pao_names(store.provenance(names[0]))
    settings = {**store.metadata, **({"pao": dict(pao)} if pao else {})}
    if "valence" in settings or settings.get("code") == "pyscf":
        return settings
    found = stated_valence((store.provenance(name) for name in names), store.basis.elements)
    if found is None:
        found = valence_electrons((store[name] for name in names), store.basis.elements)
    return {**settings, **({} if found is None else {"valence": found})}
