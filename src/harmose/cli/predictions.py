"""Predictions as samples, for the commands predict, orbitals, bands and dos."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from ase import Atoms
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from harmose.cli.basis_option import with_functions, with_overlap
from harmose.cli.inputs import one_structure
from harmose.cli.options import error_prefix
from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import FormatError, ModelError, OutsideDomain
from harmose.evaluate.comparison import Comparison, find_structure
from harmose.inference import checkpoint
from harmose.inference.model import Model
from harmose.io import pyscf
from harmose.io.basis_sets import is_known, overlap
from harmose.io.files import has_only_overlap, read, read_overlap
from harmose.io.overlaps import Overlap, overlap_on_graph
from harmose.physics.ghosts import warn_of_ghosts
from harmose.train.config import Bytes
from harmose.uncertainty.prediction import Uncertainty

PAIRS_TOGETHER, PAIRS_IN_A_CRYSTAL = 2_000, 40
"""Pairs of atoms of structures that are predicted together, and of each atom of a crystal, roughly."""


def parse_partition(text: str) -> str | int:
    """Return the value of --partition: auto, off, or a positive number of pairs."""
    if text in ("auto", "off"):
        return text
    if not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"expected auto, off or a number of pairs, got {text!r}")
    return int(text)


def parse_memory(text: str) -> float:
    """Return the value of --memory in bytes."""
    try:
        return TypeAdapter(Bytes).validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"expected a quantity like 500MB or 12GB, got {text!r}") from None


@dataclass
class Predictor:
    """Predicts structures as samples, with the options of `Model.predict`."""

    model: Model
    name: str
    """The model's name or folder."""
    partition: Any = "auto"
    memory: float | None = None
    scheduler: str | None = None
    stage: str = "full"
    energy_zero: str | None = None
    folder: Path | None = None
    console: Console | None = None
    in_parts: bool = False
    """True if the last structure was predicted in parts."""

    def sample(self, atoms: Atoms, name: str, s: BlockMatrix | None = None) -> Sample:
        """Predict H as a sample. S is `s`, or computed from radial functions: the model's own, or those of PySCF or CP2K."""
        with error_prefix(atoms.info["source"]):
            self.in_parts = False
            h = self.model.predict(
                atoms,
                stage=self.stage,
                partition=self.partition,
                memory=self.memory,
                scheduler=self.scheduler,
                folder=self.folder,
                energy_zero=self.energy_zero,
                log=self._log,
            )
            if s is None and self.model.radial is not None:
                s = self.model.overlap(h, atoms)
            elif s is None and is_known(h.basis):
                s = overlap(atoms, h.basis)
            return self._as_sample(atoms, name, h, s)

    def samples(
        self, structures: Sequence[Atoms], names: Sequence[str], overlaps: Sequence[BlockMatrix] | None = None
    ) -> Iterator[tuple[Sample, Uncertainty | None]]:
        """Predict many structures as samples with bounds of their errors, a few at a time in one pass of the model.

        `overlaps`: S of each, read when it is its turn; default: computed as in `sample`.
        """
        if self.model.is_calibrated:  # before hours of work for those that come first
            self.model.check(structures)
        for batch in _batches(structures):
            given = None if overlaps is None else [overlaps[k] for k in batch]
            parts = [structures[k] for k in batch], [names[k] for k in batch], given
            yield from self._one_pass(*parts) if self._takes_one_pass(parts[0]) else self._one_by_one(*parts)

    def _one_by_one(
        self, structures: Sequence[Atoms], names: Sequence[str], overlaps: Sequence[BlockMatrix] | None
    ) -> Iterator[tuple[Sample, Uncertainty | None]]:
        given = [None] * len(structures) if overlaps is None else overlaps
        for atoms, name, s in zip(structures, names, given, strict=True):
            sample = self.sample(atoms, name, s)
            yield sample, self.bounds(sample)

    def _takes_one_pass(self, structures: Sequence[Atoms]) -> bool:
        """True if H and its bounds can be predicted together: of the whole model, and of structures that are no parts."""
        usual = (
            self.stage == "full"
            and self.partition == "auto"
            and self.energy_zero in (None, self.model.card.energy_zero)
        )
        return usual and self.model.is_calibrated and len(structures) > 1

    def _one_pass(
        self, structures: Sequence[Atoms], names: Sequence[str], overlaps: Sequence[BlockMatrix] | None
    ) -> Iterator[tuple[Sample, Uncertainty | None]]:
        if overlaps is None and (self.model.radial is not None or is_known(self.model.card.basis)):
            overlaps = [self.model.overlaps.of(graph) for graph in self.model.graphs(structures)]
        with warnings.catch_warnings():  # what is outside is said of each structure
            warnings.simplefilter("ignore", OutsideDomain)
            found = self.model.uncertainty_many(structures, overlaps=overlaps)
        for k, (atoms, name, u) in enumerate(zip(structures, names, found, strict=True)):
            yield self._as_sample(atoms, name, u.hamiltonian, None if overlaps is None else overlaps[k]), u

    def bounds(self, sample: Sample) -> Uncertainty | None:
        """Return the error bounds; None for a stage of the model, a prediction in parts, or without calibration.

        Warns `GhostLevels` if there are any.
        """
        if self.stage != "full" or self.in_parts:
            return None
        bounds = self.model.bounds_many([sample.structure], None, [sample.overlap], [sample.hamiltonian])[0]
        if bounds is not None and bounds.orbitals is not None:
            warn_of_ghosts(bounds.orbitals.ghosts)
        return bounds

    def _as_sample(self, atoms: Atoms, name: str, h: BlockMatrix, s: BlockMatrix | None) -> Sample:
        return Sample(
            name=name,
            structure=atoms,
            basis=h.basis,
            hamiltonian=h,
            overlap=s,
            spin=h.spin,
            n_electrons=self._n_electrons(atoms),
            provenance={"kind": "prediction", "model": self.name} | self._code(),
        )

    def _n_electrons(self, atoms: Atoms) -> float | None:
        """Return the number of electrons as in the labels; None if their settings do not say."""
        card = self.model.card
        try:
            return self.model.n_electrons(atoms)
        except ModelError:
            if card.settings.get("code") is not None or not is_known(card.basis):
                return None
            return float(pyscf.molecule(atoms, card.basis.name, card.spin).nelectron)  # labels in a basis set of PySCF

    def _code(self) -> dict[str, str]:
        """Return {"code": ...}, the code of the labels, whose basis set the prediction is in."""
        code = self.model.card.settings.get("code")
        return {} if code is None else {"code": code}

    def _log(self, plan: str) -> None:
        self.in_parts = True
        if self.console is not None:
            self.console.print(plan, markup=False, soft_wrap=True)


def _batches(structures: Sequence[Atoms]) -> Iterator[list[int]]:
    """Yield the numbers of structures that are predicted together: about as many pairs of atoms as are quick together."""
    batch, total = [], 0
    for k, atoms in enumerate(structures):
        pairs = len(atoms) * (PAIRS_IN_A_CRYSTAL if atoms.pbc.any() else (len(atoms) + 1) // 2)
        if batch and total + pairs > PAIRS_TOGETHER:
            yield batch
            batch, total = [], 0
        batch.append(k)
        total += pairs
    if batch:
        yield batch


def is_model(source: str) -> bool:
    """True if `source` is the folder of a model, or nothing on disk: then it may be the name of a shipped model."""
    return (Path(source) / "card.json").is_file() or not Path(source).exists()


def read_or_predict(
    source: str, target: str | None, reference: Path | None, console: Console, basis: Sequence[Path] | None = None
) -> Comparison:
    """Read a sample from a source, or predict it if `source` is a model, and read the DFT sample to compare it with.

    The sample takes the reference's overlap if it has none. A reference with S alone gives S and no sample to compare
    with. For bands and densities of states, which find the Fermi level of the prediction themselves, the model does not
    shift its energies to it. `basis` are files of radial functions, for S.
    """
    if target is not None and is_model(source):
        path = Path(target)
        atoms = one_structure(path)
        model = with_functions(checkpoint.load(source), basis)
        dft, s = find_reference(reference, atoms, model.card.basis, str(path))
        energy_zero = "labels" if model.card.energy_zero == "fermi_of_prediction" else None
        predictor = Predictor(model, source, energy_zero=energy_zero, console=console)
        return Comparison(predictor.sample(atoms, path.stem, s), dft)
    sample = read(source, target)
    dft, s = find_reference(reference, sample.structure, sample.basis, sample.name)
    if sample.overlap is None and s is not None:
        sample = replace(sample, overlap=s)
    return Comparison(with_overlap(sample, basis), dft)


def find_reference(
    reference: Path | None, atoms: Atoms, basis: BasisSet, name: str
) -> tuple[Sample | None, BlockMatrix | None]:
    """Return the DFT sample of a structure, and its S; no sample where the reference has S alone."""
    if reference is None:
        return None, None
    if reference.exists() and has_only_overlap(reference):
        return None, read_overlap(reference, atoms, basis, name)
    dft = find_structure(reference, atoms, name)
    if dft.overlap is None:
        return dft, None
    s = Overlap(dft.name, dft.structure, dft.overlap)
    try:
        return dft, overlap_on_graph(s, atoms, basis, f"{reference}: {dft.name}")
    except FormatError:  # turned in space: its energies can be compared, but not its matrices
        return dft, None
