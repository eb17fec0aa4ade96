"""A sample, predicted or from DFT, beside the DFT sample of the same structure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core.electrons import initial_moments, total_charge
from harmose.core.sample import Sample
from harmose.data.checks import fingerprint
from harmose.errors import FormatError, MatrixError
from harmose.io.files import open_source

SAME_MOMENTS = 0.05
"""Bohr magnetons. Initial moments that differ by no more are the same."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A sample, and the DFT sample to compare it with, if any."""

    sample: Sample
    reference: Sample | None = None

    @property
    def name(self) -> str:
        """Label of the sample in tables and figures: "prediction" or "DFT"."""
        return "prediction" if self.sample.is_prediction or self.reference else "DFT"

    @property
    def samples(self) -> dict[str, Sample]:
        """The samples by label, the reference first."""
        return {**({} if self.reference is None else {"DFT": self.reference}), self.name: self.sample}

    @property
    def title(self) -> str:
        """Name and chemical formula of the sample."""
        formula = self.sample.structure.get_chemical_formula()
        return self.sample.name if formula in self.sample.name else f"{self.sample.name} ({formula})"

    @property
    def n_electrons(self) -> float | None:
        """Number of electrons of the sample, or else of the reference."""
        own = counted_electrons(self.sample)
        return counted_electrons(self.reference) if own is None and self.reference is not None else own

    def filling(self, sample: Sample, mesh: Any = None, n_electrons: float | None = None) -> dict[str, Any]:
        """Choose how `bands` and `dos` fill the states of one of the samples: {"fermi_level": ...} or {"n_electrons":
        ...}.

        The number of electrons is used if it or a mesh of k-points is given, if two samples are compared (both Fermi
        levels then come from one mesh), or if the sample has no Fermi level. A prediction beside DFT may have neither.

        Raises:
            MatrixError: a DFT sample, or a single prediction, has neither.
        """
        n = n_electrons if n_electrons is not None else self.n_electrons
        by_electrons = n_electrons is not None or (n is not None and (mesh is not None or self.reference is not None))
        if sample.fermi_level is not None and not by_electrons:
            return {"fermi_level": sample.fermi_level}
        missing = "neither the Fermi level nor the number of electrons is known; give --electrons"
        if n is None and sample is not self.sample:
            raise MatrixError(f"reference: {missing}")
        if n is None and self.reference is None:
            raise MatrixError(missing)
        return {"n_electrons": n}


def counted_electrons(sample: Sample) -> float | None:
    """Return the number of electrons of a sample, or else that of its atoms by their valence, less the stated charge.

    A file may not say it though the run's pseudopotentials do (a `.TSHS` of SIESTA that sisl wrote). None where neither does.
    """
    valence = sample.provenance.get("valence")
    if sample.n_electrons is not None or not isinstance(valence, Mapping):
        return sample.n_electrons
    symbols = sample.structure.get_chemical_symbols()
    if not set(symbols) <= set(valence):
        return None
    return float(sum(valence[symbol] for symbol in symbols) - total_charge(sample.structure))


def find_structure(path: str | Path, atoms: Atoms, name: str) -> Sample:
    """Return the sample with this structure from any source that `harmose.read` opens; one called `name` is tried
    first.

    Raises:
        FormatError: no sample of the source has this structure, with the initial moments that it states.
    """
    wanted, moments, others = fingerprint(atoms), initial_moments(atoms), 0
    source = open_source(path)
    names = source.names()
    for candidate in sorted(names, key=lambda other: other != name):
        sample = source[candidate]
        if fingerprint(sample.structure) == wanted:
            own = initial_moments(sample.structure)
            if moments is None or own is None or np.allclose(moments, own, atol=SAME_MOMENTS):
                return sample
            others += 1
    what = "structure, with its initial moments," if others else "structure"
    raise FormatError(f"{path}: none of its {len(names)} samples has the {what} of {name!r}")
