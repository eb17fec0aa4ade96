"""The prior H0 of a structure: the Fock matrix of superposed atomic densities."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.errors import ModelError
from harmose.io import pyscf

if TYPE_CHECKING:
    from harmose.io.pyscf import pair_tables


@dataclass(frozen=True, eq=False)
class Prior:
    """Computes H0 with PySCF, with the settings that the labels were made with (functional, basis set, grid).

    Attributes:
        code: DFT code of the labels.
        settings: settings of the labels.
        tables: arrays of `io.pyscf.pair_tables.PairTables`, for a tabulated H0; None: they are computed.
    """

    code: str | None
    settings: Mapping[str, Any]
    tables: Mapping[str, np.ndarray] | None = None

    @cached_property
    def _tables(self) -> "pair_tables.PairTables | None":
        return None if self.tables is None else pyscf.pair_tables.PairTables.from_arrays(self.tables)

    def compute(self, atoms: Atoms, like: BlockMatrix) -> BlockMatrix:
        """Return H0 in eV, with the blocks of `like`. Raises `ModelError` for labels of another code than PySCF."""
        if self.code not in ("pyscf", None):
            raise ModelError(f"this model needs the prior H0 of {self.code}: give it as `prior`")
        names = {f.name for f in fields(pyscf.PySCFSettings)}
        settings = pyscf.PySCFSettings(**{k: v for k, v in self.settings.items() if k in names})
        return check_prior(pyscf.prior(atoms, settings, like.basis, self._tables), like)


def check_prior(prior: BlockMatrix, like: BlockMatrix) -> BlockMatrix:
    """Return H0 as an operator in the basis set of `like`; `ModelError` where basis set, blocks or spin differ."""
    same_atoms, elements = np.array_equal(prior.numbers, like.numbers), set(like.numbers.tolist())
    if same_atoms and prior.basis.restricted(elements) != like.basis.restricted(elements):
        raise ModelError(f"expected a prior in basis {like.basis.name} with the model's shells, got {prior.basis.name}")
    if not (same_atoms and np.array_equal(prior.pairs, like.pairs)):
        raise ModelError("expected a prior of the same structure, got one with other atoms or blocks")
    if prior.spin is not like.spin:
        raise ModelError(f"expected a prior of spin {like.spin}, as the model's, got {prior.spin}")
    return like.with_values(prior.values)
