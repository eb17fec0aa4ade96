"""Reversal of magnetic moments: the same calculation with up and down exchanged.

Without a magnetic field, DFT does not distinguish up from down: reversed initial moments give H_up and H_down exchanged. A model
that reads moments is trained on each sample and on its reverse, and predicts the mean of both, so that it obeys this exactly.
"""

from dataclasses import replace

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.electrons import stated_moments
from harmose.core.sample import Sample
from harmose.spin import Spin

REVERSED = " with reversed moments"
"""End of the name of a reversed sample."""


def with_reversed_moments(atoms: Atoms) -> Atoms:
    """Return a structure whose initial moments and number of unpaired electrons have the opposite sign."""
    out, moments = atoms.copy(), stated_moments(atoms)
    if moments is not None:
        out.set_initial_magnetic_moments(-moments)
    if atoms.info.get("spin") is not None:
        out.info["spin"] = -atoms.info["spin"]
    return out


def exchanged(operator: BlockMatrix) -> BlockMatrix:
    """Return an operator with up and down exchanged; it is the same for spin none."""
    return operator.with_values(operator.values[::-1]) if operator.spin is Spin.COLLINEAR else operator


def mean_of_reversed(h: BlockMatrix, of_reversed: BlockMatrix) -> BlockMatrix:
    """Return the mean of a prediction and of that for reversed moments, with up and down exchanged."""
    return h.with_values((h.values + exchanged(of_reversed).values) / 2)


def reversed_sample(sample: Sample) -> Sample:
    """Return a collinear sample with reversed moments: H, H0 and orbital energies with up and down exchanged."""
    energies = sample.orbital_energies
    return replace(
        sample,
        name=original_name(sample.name) if sample.name.endswith(REVERSED) else sample.name + REVERSED,
        structure=with_reversed_moments(sample.structure),
        hamiltonian=exchanged(sample.hamiltonian),
        prior=None if sample.prior is None else exchanged(sample.prior),
        orbital_energies=None if energies is None else np.ascontiguousarray(energies[::-1]),
    )


def original_name(name: str) -> str:
    """Return the name of a sample without the addition of `reversed_sample`."""
    return name.removesuffix(REVERSED)
