"""`Model`: a trained network with the closed-form part and the card; `predict(atoms)` gives H."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from harmose.blocks import BlockMatrix, empty_matrix
from harmose.card import Card
from harmose.closed_form.baseline import Baseline
from harmose.closed_form.novelty import LIMIT
from harmose.data.dataset import restore
from harmose.data.joining import Joined, join, joined_batch, with_spin
from harmose.errors import ModelError, OutsideDomain
from harmose.fermi import at_own_fermi_level, n_electrons
from harmose.graph import build_graph
from harmose.nn.model import TwoStage
from harmose.radial_basis import overlap
from harmose.structure import check_structure
from harmose.targets import to_matrix


@dataclass(frozen=True)
class Model:
    """A network with its baseline and its card: `predict(atoms)` gives H."""

    network: TwoStage
    baseline: Baseline
    card: Card

    def predict(self, atoms: Atoms, prior: BlockMatrix | None = None, stage: str = "full") -> BlockMatrix:
        """H in eV. `stage` is "full" or "stage1"; a model that needs H0 computes it with PySCF unless it is given.

        Raises `ModelError` for what the card does not cover, `StructureError` for a structure without meaning.
        """
        return self.predict_many([atoms], None if prior is None else [prior], stage)[0]

    def predict_many(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None] | None = None, stage: str = "full"
    ) -> list[BlockMatrix]:
        """`predict` for several structures in one pass of the network."""
        if stage not in ("full", "stage1"):
            raise ModelError(f"stage: expected full or stage1, got {stage!r}")
        for atoms in structures:
            self._check(atoms)
        if not structures:
            return []
        space = self.baseline.space
        graphs = [build_graph(atoms, space.basis) for atoms in structures]
        joined, priors = join(space, graphs), self._priors(structures, priors)
        device = next(self.network.parameters()).device
        batch = joined_batch(space, joined, self._operators(structures, priors)).to(device)
        with torch.no_grad():
            predicted = self.network(batch, stage)
        try:
            restored = restore(self.baseline, joined.oriented, predicted)
            self._warn(joined)
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError(f"the model's baseline does not belong to its card ({error})") from None
        values = to_matrix(space, restored, joined.graph, joined.oriented)
        matrices = joined.split(values, graphs)
        if self.card.gauge == "solved":
            electrons = [
                n_electrons(self.card.settings, self.card.basis, self.card.spin, atoms) for atoms in structures
            ]
            return [at_own_fermi_level(*each) for each in zip(matrices, structures, electrons, strict=True)]
        if not self.card.needs_prior:
            return matrices
        return [m if prior is None else m + prior for m, prior in zip(matrices, priors, strict=True)]

    def _priors(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None] | None
    ) -> list[BlockMatrix | None]:
        """H0 of each structure, given or computed; None where the model neither reads nor adds it."""
        if not (self.card.needs_prior or self.card.inputs.prior):
            return [None] * len(structures)
        given, space = priors if priors is not None else [None] * len(structures), self.baseline.space
        graphs = [build_graph(atoms, space.basis) for atoms in structures]
        like = [empty_matrix(space.basis, g.numbers, g.pairs, space.spin) for g in graphs]
        return [self._prior(*each) for each in zip(structures, given, like, strict=True)]

    def _operators(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None]
    ) -> dict[str, list[BlockMatrix]]:
        """H0 and S of each structure, as far as the network reads them; S is computed."""
        space, found = self.baseline.space, {}
        if self.card.inputs.prior:
            found["prior"] = [prior for prior in priors if prior is not None]
        if self.card.inputs.overlap:
            found["overlap"] = [with_spin(overlap(atoms, space.basis), space.spin) for atoms in structures]
        return found

    def _warn(self, joined: Joined) -> None:
        """`OutsideDomain`, one line for each structure with an atom of unfamiliar surroundings."""
        novelty = self.baseline.novelty(joined.oriented)
        if novelty.max(initial=0.0) <= LIMIT:
            return
        for k in range(joined.n_samples):
            mine = novelty[joined.atom_sample == k]
            if mine.max(initial=0.0) > LIMIT:
                warnings.warn(_outside(mine), OutsideDomain, stacklevel=4)

    def _check(self, atoms: Atoms) -> None:
        check_structure(atoms)
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.card.elements))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.card.elements)
            raise ModelError(
                f"expected elements among {known}, which the model knows, got {chemical_symbols[unknown[0]]}"
            )
        if atoms.pbc.any() and not self.card.periodic:
            raise ModelError(f"expected a molecule, as in the model's training set, got pbc {atoms.pbc.tolist()}")

    def _prior(self, atoms: Atoms, prior: BlockMatrix | None, like: BlockMatrix) -> BlockMatrix:
        if prior is None:
            from harmose.io.pyscf import PySCFSettings
            from harmose.io.pyscf import prior as compute

            if self.card.code not in ("pyscf", None):
                raise ModelError(f"this model needs the prior H0 of {self.card.code}: give it as `prior`")
            known = {f.name for f in fields(PySCFSettings)}
            prior = compute(
                atoms, PySCFSettings(**{k: v for k, v in self.card.settings.items() if k in known}), like.basis
            )
        if prior.basis.restricted(set(atoms.numbers.tolist())) != like.basis.restricted(set(atoms.numbers.tolist())):
            raise ModelError(
                f"expected a prior in basis {like.basis.name} with the model's shells, got {prior.basis.name}"
            )
        if not (np.array_equal(prior.numbers, like.numbers) and np.array_equal(prior.pairs, like.pairs)):
            raise ModelError("expected a prior of the same structure, got one with other atoms or blocks")
        if prior.spin is not like.spin:
            raise ModelError(f"expected a prior of spin {like.spin}, as the model's, got {prior.spin}")
        return like.with_values(prior.values)


def _outside(novelty: np.ndarray) -> str:
    return (
        f"outside the training domain: the surroundings of {(novelty > LIMIT).sum()} of {len(novelty)} atoms are up to "
        f"{novelty.max():.1f} times as far from those of the training set as any that it held out (most: atom "
        f"{novelty.argmax()}); expect larger errors"
    )
