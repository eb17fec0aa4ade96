"""Training samples of a model that reads magnetic moments: each sample of a store, and the same with reversed moments."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from harmose.core.electrons import moment_signs, stated_moments
from harmose.core.moments import REVERSED, original_name, reversed_sample
from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import FormatError
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings, block_irreps
from harmose.spin import Spin


class StoreWithReversals(Store):
    """A store that gives also each sample with reversed moments, under its name and `REVERSED`; it is not written to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.path)

    def __reduce__(self):
        return StoreWithReversals, (Store(self.path),)

    def __getitem__(self, name: str) -> Sample:
        sample = super().__getitem__(original_name(name))
        return reversed_sample(sample) if name.endswith(REVERSED) else sample

    def record(self, name: str) -> bytes:
        """Return the record of the original sample."""
        return super().record(original_name(name))


def with_reversals(names: Iterable[str]) -> list[str]:
    """Return names, and after them those of the samples with reversed moments."""
    names = list(names)
    return [*names, *(name + REVERSED for name in names)]


def training_space(store: Store, names: Sequence[str], target: TargetSettings) -> BlockIrreps:
    """Return the irreps of a store's blocks; with moments as input, for the elements and signs of the samples `names`.

    Raises `FormatError` for labels that are not collinear, and for samples that do not state their moments.
    """
    if not target.moments:
        return block_irreps(store.basis, store.spin)
    if store.spin is not Spin.COLLINEAR:
        raise FormatError(f"{store.path}: expected collinear labels for inputs.moments, got spin {store.spin}")
    kinds: set[tuple[Any, Any]] = set()
    for name in dict.fromkeys(map(original_name, names)):
        atoms = store[name].structure
        signs = moment_signs(atoms)
        if signs is None:
            got = "none" if stated_moments(atoms) is None else "vectors"
            raise FormatError(f"{store.path}: sample {name}: expected the initial magnetic moment of each atom for "
                              f"inputs.moments, got {got}; state them before the calculation is labelled or converted")  # fmt: skip
        both = np.concatenate([np.column_stack([atoms.numbers, x]) for x in (signs, -signs)])
        kinds |= {(z, sign) for z, sign in np.unique(both, axis=0).tolist()}
    if not any(sign for _, sign in kinds):
        raise FormatError(
            f"{store.path}: expected magnetic moments for inputs.moments, got zeros in all training samples"
        )
    return block_irreps(store.basis, store.spin, tuple(sorted(kinds)))
