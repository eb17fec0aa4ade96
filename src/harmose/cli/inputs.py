"""Structures, samples and labels that the arguments of commands name, checked."""

from pathlib import Path

from ase import Atoms

from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, ModelError
from harmose.inference.card import Card
from harmose.io.structures import read_structures


def one_structure(path: Path) -> Atoms:
    """Read the only structure of a file."""
    structures = read_structures(path)
    if len(structures) != 1:
        raise FormatError(f"{path}: expected one structure, got {len(structures)}")
    return structures[0]


def split_names(store: Store, split: str | None) -> list[str]:
    """Return the names of the samples of a split. Default: test, or else val, or else all."""
    splits = store.splits
    if split is None:
        split = next((name for name in ("test", "val") if splits.get(name)), "all")
    if split != "all" and split not in splits:
        raise ConfigError(f"{store.path}: expected a split among {', '.join([*splits, 'all'])}, got {split!r}")
    names = store.names() if split == "all" else splits[split]
    if not names:
        raise FormatError(f"{store.path}: there are no samples to evaluate on")
    return names


def check_labels(card: Card, store: Store) -> None:
    """Raise `ModelError` if a store has other labels (spin, code, functional, basis) than those the model learned."""
    if card.spin is not store.spin:
        raise ModelError(f"{store.path}: expected labels of spin {card.spin}, as the model's, got {store.spin}")
    for key in ("code", "functional", "basis"):
        learned, stored = card.settings.get(key), store.metadata.get(key)
        if learned is not None and stored is not None and learned != stored:
            raise ModelError(f"{store.path}: expected labels of {key} {learned}, as the model's, got {stored}")
