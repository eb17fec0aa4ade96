"""What `harmose bands` and `harmose dos` work on: a DFT sample or a prediction, and DFT to compare it with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmose.cli.options import about, one_structure, terminal
from harmose.cli.parts import Predictor
from harmose.errors import FormatError, MatrixError

if TYPE_CHECKING:
    from ase import Atoms

    from harmose.core.sample import Sample


@dataclass(frozen=True, eq=False)
class Pair:
    """A sample, by what its matrix is, and the DFT sample to compare it with."""

    sample: "Sample"
    reference: "Sample | None"

    @property
    def name(self) -> str:
        """What is shown of the sample."""
        return "prediction" if self.sample.provenance.get("kind") == "prediction" or self.reference else "DFT"

    @property
    def named(self) -> "dict[str, Sample]":
        """The reference first."""
        return {**({} if self.reference is None else {"DFT": self.reference}), self.name: self.sample}

    @property
    def title(self) -> str:
        formula = self.sample.structure.get_chemical_formula()
        return self.sample.name if formula in self.sample.name else f"{self.sample.name} ({formula})"

    @property
    def n_electrons(self) -> float | None:
        """As either of the two knows."""
        known = self.sample.n_electrons
        return self.reference.n_electrons if known is None and self.reference is not None else known


def samples_of(source: str, target: str | None, reference: Path | None) -> Pair:
    from harmose.io.files import read

    if target is None:
        sample = read(source)
    elif is_model(source):
        return _predicted(source, Path(target), reference)
    else:
        sample = read(source, target)
    other = None if reference is None else same_structure(reference, sample.structure, sample.name)
    if sample.overlap is None and other is not None:
        sample = replace(sample, overlap=other.overlap)
    return Pair(sample, other)


def is_model(source: str) -> bool:
    """Whether a source is a training's folder, or, where nothing has that name here, perhaps a shipped model."""
    return (Path(source) / "card.json").is_file() or not Path(source).exists()


def fermi_level(sample: "Sample", pair: Pair, mesh: Any, electrons: float | None) -> dict[str, float | None]:
    """What `bands` and `dos` are to be told: the Fermi level of the calculation, or the number of electrons.

    The latter where the level is not known, where a mesh or a number of electrons is given, and where two are compared: then
    both levels come from one mesh. Without both, an error for DFT; for a prediction beside DFT its level stays unknown.
    """
    n = electrons if electrons is not None else pair.n_electrons
    asked = electrons is not None or (n is not None and (mesh is not None or pair.reference is not None))
    if sample.fermi_level is not None and not asked:
        return {"fermi_level": sample.fermi_level}
    if n is None and sample is not pair.sample:
        raise MatrixError("reference: neither its Fermi level nor the number of electrons is known; give --electrons")
    if n is None and pair.reference is None:
        raise MatrixError("neither the Fermi level nor the number of electrons is known; give --electrons")
    return {"n_electrons": n}


def _predicted(name: str, path: Path, reference: Path | None) -> Pair:
    """The prediction with the reference's overlap, or with the one that its basis set gives."""
    from harmose.core.sample import Sample
    from harmose.inference.checkpoint import load
    from harmose.io.basis_sets import overlap

    atoms = one_structure(path)
    other = None if reference is None else same_structure(reference, atoms, str(path))
    model = load(name)
    with about(atoms.info["source"]):
        h = Predictor(console=terminal()).predict(model, atoms)
        known = other is not None and other.overlap is not None
        s = other.overlap if known else overlap(atoms, h.basis)  # type: ignore[union-attr]
        n = electrons_of(model.card, atoms)
    provenance = {"kind": "prediction", "model": name}
    return Pair(Sample(path.stem, atoms, h.basis, h, s, spin=h.spin, n_electrons=n, provenance=provenance), other)


def electrons_of(card: Any, atoms: "Atoms") -> float | None:
    """Of the cell, as the labels say (their `valence` by element) or as PySCF counts them; None where neither does."""
    from ase.data import chemical_symbols

    valence = card.settings.get("valence")
    if isinstance(valence, Mapping) and all(chemical_symbols[z] in valence for z in set(atoms.numbers.tolist())):
        return float(sum(valence[chemical_symbols[z]] for z in atoms.numbers.tolist()))
    if card.settings.get("code", "pyscf") == "pyscf":
        from harmose.io.basis_sets import is_known
        from harmose.io.pyscf.pyscf import molecule

        if not is_known(card.basis):
            return None
        return float(molecule(atoms, card.basis.name, card.spin).nelectron)
    return None


def same_structure(path: Path, atoms: "Atoms", name: str) -> "Sample":
    """The sample of a source (anything that `harmose.read` reads) that has this structure."""
    from harmose.data.checks import fingerprint
    from harmose.io.files import open_source

    wanted = fingerprint(atoms)
    source = open_source(path)
    names = source.names()
    for candidate in sorted(names, key=lambda other: other != name):
        sample = source[candidate]
        if fingerprint(sample.structure) == wanted:
            return sample
    raise FormatError(f"{path}: none of its {len(names)} samples has the structure of {name!r}")
