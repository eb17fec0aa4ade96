"""The metrics of a test set, for stage 1 alone and the full model side by side (`docs/metrics.md`).

The error of sample s is the mean over all elements of its matrix,

    e[s] = mean |H_predicted - H_DFT|

where a block that is stored once and stands for its reverse as well counts twice, so that for a molecule e[s] is
`np.mean(np.abs(difference.dense()))`. Spinor elements count as their real and imaginary parts. All energies are in eV.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.errors import HarmoseError, MatrixError
from harmose.evaluate.band_metrics import sample_band_errors
from harmose.evaluate.block_errors import block_errors, block_sums, total
from harmose.evaluate.coverage import CoverageCounter
from harmose.evaluate.evaluation import BlockErrors, EvaluatedSample, Evaluation, SampleErrors, StageMetrics
from harmose.evaluate.spin_orbit import spin_orbit_shifts
from harmose.physics.eigen import MolecularOrbitals, is_periodic, same_orbitals, spin_orbitals
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin, absolute
from harmose.uncertainty.prediction import Uncertainty
from harmose.units import HARTREE

DEGENERATE = 1e-5 * HARTREE
"""Levels closer than this (eV) are compared as one subspace: any rotation among them solves the same equation."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A labelled sample and what the two stages say of it; a model without stage 2 gives the same matrix twice."""

    sample: Sample
    stage1: BlockMatrix
    full: BlockMatrix
    uncertainty: Uncertainty | None = None
    """Bounds of the full model's errors, of a model that is calibrated."""


@dataclass(frozen=True)
class RotationError:
    """`absolute` in eV; `relative` to the mean absolute element of the predicted H."""

    absolute: float
    relative: float
    n_structures: int
    n_rotations: int


class Predictor(Protocol):
    """What `rotation_error` needs of a model."""

    def predict(self, atoms: Atoms, prior: BlockMatrix | None = None, stage: str = "full") -> BlockMatrix: ...


def evaluate(
    predictions: Iterable[Prediction],
    rotation_error: Mapping[str, RotationError] | None = None,
    reference: Evaluation | None = None,
) -> Evaluation:
    """All metrics of a test set; goes through `predictions` once and keeps none of them.

    `rotation_error` is reported as it is given, by stage ("stage1", "full"). Challenging samples and blocks are those
    where stage 1 is worst, or the full model of `reference`, an evaluation of the same samples. Orbital metrics need S
    and the number of electrons, and are for molecules; bands need S and a Fermi level or the number of
    electrons, and are for crystals (`band_metrics`); samples without are left out of them.

    Raises `MatrixError` that names the sample for a prediction of other blocks or with values that are not finite, and
    for an S that is not positive definite; also when there is no sample, or `reference` lacks one.
    """
    samples, counts, sums, coverage = [], [], {}, CoverageCounter()
    for prediction in predictions:
        _check(prediction)
        coverage.add(prediction)
        h, error = prediction.sample.hamiltonian, _absolute_errors(prediction)
        sums = total([sums, block_sums(h, error)])
        counts.append(h.spin.n_components * int(_weights(h).sum()))
        samples.append(_evaluate_sample(prediction, error))
    if not samples:
        raise MatrixError("evaluation: expected at least one sample, got none")
    blocks = block_errors(sums)
    sample_ranking, block_ranking = _rankings(samples, blocks, reference)
    worst = np.argsort(sample_ranking)[::-1][: -(-len(samples) // 20)]  # 5 per cent, rounded up
    worst_block = blocks[int(np.argmax(block_ranking))]
    rotation = rotation_error or {}
    return Evaluation(
        n_samples=len(samples),
        n_elements=sum(counts),
        stage1=_stage_metrics([s.stage1 for s in samples], counts, worst, worst_block.stage1, rotation.get("stage1")),
        full=_stage_metrics([s.full for s in samples], counts, worst, worst_block.full, rotation.get("full")),
        blocks=blocks,
        samples=tuple(samples),
        challenging_samples=tuple(samples[k].name for k in worst),
        challenging_block=worst_block.label,
        coverage=coverage.result(),
    )


def rotation_error(
    model: Predictor,
    structures: Sequence[Atoms],
    n_rotations: int = 4,
    seed: int = 0,
    stage: str = "full",
    priors: Sequence[BlockMatrix | None] | None = None,
) -> RotationError:
    """How far a model is from turning with its structure: mean |H(Qx) - D(Q) H(x) D(Q)^T| over random rotations Q.

    The mean is that of e[s], over rotations and structures. `priors` (one per structure, or None) are turned with the
    structure; without them a model that needs priors computes them at both ends, with their own grid noise.
    """
    generator = np.random.default_rng(seed)
    errors, sizes = [], []
    for k, atoms in enumerate(structures):
        prior = priors[k] if priors is not None else None
        at_rest = model.predict(atoms, prior=prior, stage=stage)
        sizes.append(mean_absolute(at_rest))
        for _ in range(n_rotations):
            q = random_rotation(generator)
            turned = model.predict(_rotated(atoms, q), prior=prior.rotate(q) if prior else None, stage=stage)
            errors.append(mean_absolute(turned - at_rest.rotate(q)))
    if not errors:
        raise MatrixError(f"rotation error: expected structures and rotations, got {len(structures)} and {n_rotations}")
    absolute, size = float(np.mean(errors)), float(np.mean(sizes))
    return RotationError(absolute, absolute / size if size else 0.0, len(structures), n_rotations)


def _rotated(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T, scale_atoms=False)
    turned.positions = atoms.positions @ rotation.T
    return turned


def mean_absolute(operator: BlockMatrix) -> float:
    """Mean absolute element of the whole matrix: stored blocks of pairs count for their reverse as well."""
    return float(np.average(absolute(operator.values), axis=1, weights=_weights(operator)).mean())


def wavefunction_similarity(predicted: MolecularOrbitals, reference: MolecularOrbitals) -> float | None:
    """Mean over occupied orbitals of |c . c'| / (|c| |c'|), the plain cosine of the coefficient vectors, without S.

    Levels of the reference that lie within `DEGENERATE` of their neighbour are compared as one subspace: by the cosines
    of the principal angles between the two spans; so are the Kramers pairs of spinors. None without occupied orbitals.
    """
    n = reference.n_occupied
    if n == 0:
        return None
    c, c_ref = predicted.coefficients[:, :n], reference.coefficients[:, :n]
    cosines = np.abs((c.conj() * c_ref).sum(axis=0)) / np.linalg.norm(c, axis=0) / np.linalg.norm(c_ref, axis=0)
    edges = np.flatnonzero(np.diff(reference.energies[:n]) > DEGENERATE) + 1
    for level in np.split(np.arange(n), edges):
        if len(level) > 1:
            span, span_ref = np.linalg.qr(c[:, level])[0], np.linalg.qr(c_ref[:, level])[0]
            cosines[level] = np.linalg.svd(span.conj().T @ span_ref, compute_uv=False)
    return float(np.minimum(cosines, 1).mean())


def solved_orbitals(prediction: Prediction) -> dict[str, MolecularOrbitals] | None:
    """Orbitals of the DFT matrix ("dft") and of both stages ("stage1", "full"), all from the sample's S.

    None where there is not one set to compare: no S, no number of electrons, two spins, or a periodic structure.
    """
    solved = _solved_spins(prediction)
    return {name: sets[0] for name, sets in solved.items()} if solved and len(solved["dft"]) == 1 else None


def _solved_spins(prediction: Prediction) -> dict[str, tuple[MolecularOrbitals, ...]] | None:
    """As `solved_orbitals`, of both collinear spins; as many of each are occupied as in DFT."""
    sample = prediction.sample
    if sample.overlap is None or sample.n_electrons is None or is_periodic(sample.hamiltonian):
        return None
    s, n = sample.overlap, sample.n_electrons
    try:
        dft = spin_orbitals(sample.hamiltonian, s, n)
        occupied = [orbitals.n_occupied for orbitals in dft]
        solved = {"dft": dft, "full": spin_orbitals(prediction.full, s, n, occupied)}
        if prediction.stage1 is prediction.full:
            return {**solved, "stage1": solved["full"]}
        return {**solved, "stage1": spin_orbitals(prediction.stage1, s, n, occupied)}
    except HarmoseError as error:
        raise MatrixError(f"sample {sample.name}: {error}") from None


def _check(prediction: Prediction) -> None:
    reference = prediction.sample.hamiltonian
    for stage in ("stage1", "full"):
        h: BlockMatrix = getattr(prediction, stage)
        where = f"sample {prediction.sample.name}, {stage} prediction"
        if not same_orbitals(h, reference) or h.spin is not reference.spin:
            raise MatrixError(f"{where}: expected the atoms, shells and spin of the sample, got others")
        if not np.array_equal(h.pairs, reference.pairs):
            raise MatrixError(f"{where}: expected the {len(reference.pairs)} pairs of the sample, got {len(h.pairs)}")
        if not np.isfinite(h.values).all():
            raise MatrixError(f"{where}: expected finite values, got NaN or infinity")


def _absolute_errors(prediction: Prediction) -> np.ndarray:
    """|H_predicted - H_DFT| of every stored value by stage 1 and the full model: (2, n_components, size)."""
    reference = prediction.sample.hamiltonian.values
    return np.stack([absolute(h.values - reference) for h in (prediction.stage1, prediction.full)])


def _weights(layout: BlockMatrix) -> np.ndarray:
    """How often each stored value occurs in the whole matrix: pairs stand for their reverse as well (size,)."""
    return np.where(layout.is_onsite, 1, 2)


def _evaluate_sample(prediction: Prediction, error: np.ndarray) -> EvaluatedSample:
    mae = np.average(error, axis=2, weights=_weights(prediction.sample.hamiltonian)).mean(axis=1)
    spectra = _spectral_errors(prediction)
    stages = (SampleErrors(float(e), **spectra.get(stage, {})) for stage, e in zip(("stage1", "full"), mae))
    return EvaluatedSample(prediction.sample.name, prediction.sample.structure.get_chemical_formula(), *stages)


def _spectral_errors(prediction: Prediction) -> dict[str, dict[str, float | None]]:
    """By stage the errors of a molecule's orbitals or of a crystal's bands; empty where neither can be compared."""
    stages = {"stage1": prediction.stage1, "full": prediction.full}
    if prediction.sample.structure.pbc.any():
        same = prediction.stage1 is prediction.full
        found = sample_band_errors(prediction.sample, {"full": prediction.full} if same else stages)
        errors = {stage: {"bands": e.mae, "ghost_states": float(e.ghost_states)} for stage, e in found.items()}
        return {"stage1": errors["full"], **errors} if same and errors else errors
    orbitals = _solved_spins(prediction)
    if orbitals is None:
        return {}
    return {
        stage: _orbital_errors(orbitals[stage], orbitals["dft"]) | _coupling(prediction, h)
        for stage, h in stages.items()
    }


def _orbital_errors(
    predicted: tuple[MolecularOrbitals, ...], reference: tuple[MolecularOrbitals, ...]
) -> dict[str, float | None]:
    pairs = [(a, b) for a, b in zip(predicted, reference, strict=True) if b.n_occupied]
    occupied = [np.abs(a.energies - b.energies)[: b.n_occupied] for a, b in pairs]
    similar = [wavefunction_similarity(a, b) for a, b in pairs]
    weights = [b.n_occupied for _, b in pairs]
    return {
        "orbital_energy": float(np.concatenate(occupied).mean()) if pairs else None,
        "wavefunction": float(np.average(np.array(similar, dtype=float), weights=weights)) if pairs else None,
        **{name: _difference(a, b) for name, a, b in zip(FRONTIER, _frontier(predicted), _frontier(reference))},
    }


FRONTIER = ("homo", "lumo", "gap")


def _frontier(orbitals: tuple[MolecularOrbitals, ...]) -> tuple[float | None, ...]:
    """HOMO, LUMO and gap, of either spin."""
    homo = max((x.homo for x in orbitals if x.homo is not None), default=None)
    lumo = min((x.lumo for x in orbitals if x.lumo is not None), default=None)
    return homo, lumo, None if homo is None or lumo is None else lumo - homo


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else abs(a - b)


def _coupling(prediction: Prediction, h: BlockMatrix) -> dict[str, float | None]:
    """Errors of the spin-orbit shifts of a spinor Hamiltonian."""
    sample = prediction.sample
    if h.spin is not Spin.SPINOR or not sample.n_electrons:
        return {}
    assert sample.overlap is not None
    shifts, reference = (spin_orbit_shifts(x, sample.overlap, sample.n_electrons) for x in (h, sample.hamiltonian))
    error, size = float(np.abs(shifts - reference).mean()), float(np.abs(reference).mean())
    return {"spin_orbit": error, "spin_orbit_relative": error / size if size else None}


def _rankings(
    samples: list[EvaluatedSample], blocks: tuple[BlockErrors, ...], reference: Evaluation | None
) -> tuple[list[float], list[float]]:
    """The reference model's errors of these samples and blocks."""
    if reference is None:
        return [sample.stage1.mae for sample in samples], [block.stage1 for block in blocks]
    by_sample = {sample.name: sample.full.mae for sample in reference.samples}
    by_block = {block.label: block.full for block in reference.blocks}
    try:
        return [by_sample[sample.name] for sample in samples], [by_block[block.label] for block in blocks]
    except KeyError as missing:
        raise MatrixError(f"reference evaluation: expected the same samples and blocks, got no {missing}") from None


def _stage_metrics(
    samples: list[SampleErrors], counts: list[int], worst: np.ndarray, block: float, rotation: RotationError | None
) -> StageMetrics:
    mae = np.array([sample.mae for sample in samples])
    spectral = (field.name for field in fields(SampleErrors) if field.name not in ("mae", "ghost_states"))
    ghosts = [sample.ghost_states for sample in samples if sample.ghost_states is not None]
    return StageMetrics(
        mae=float(mae.mean()),
        mae_elements=float(np.average(mae, weights=counts)),
        mae_challenging_samples=float(mae[worst].mean()),
        mae_challenging_block=block,
        rotation_error=rotation.absolute if rotation else None,
        rotation_error_relative=rotation.relative if rotation else None,
        ghost_states=sum(ghosts) if ghosts else None,
        **{name: _mean([getattr(sample, name) for sample in samples]) for name in spectral},
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
