"""Metrics of a test set, for each stage of a model (`docs/metrics.md`).

The error of sample s is the mean over all elements of its matrix,

    e[s] = mean |H_predicted - H_DFT|

A block that is stored once for a pair of atoms counts twice, since it stands for its reverse as well. For a molecule
e[s] is therefore `np.mean(np.abs(difference.dense()))`. Spinor elements count as their real and imaginary parts.
Energies are in eV.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import numpy as np
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.errors import HarmoseError, MatrixError
from harmose.evaluate.band_metrics import BandErrors, sample_band_errors
from harmose.evaluate.block_errors import block_errors, block_sums, total
from harmose.evaluate.coverage import CoverageCounter
from harmose.evaluate.evaluation import (
    REFERENCE_STAGE,
    BlockErrors,
    Errors,
    EvaluatedSample,
    Evaluation,
    Prediction,
    StageMetrics,
)
from harmose.physics.eigen import MolecularOrbitals, frontier, is_periodic, same_orbitals, spin_orbitals
from harmose.so3.wigner import random_rotation
from harmose.spin import Spin, absolute
from harmose.units import HARTREE

DEGENERATE = 1e-5 * HARTREE
"""Orbitals closer in energy than this (eV) are compared as one subspace: any mixture solves the same equation."""

FRONTIER = ("homo", "lumo", "gap")

T = TypeVar("T")


@dataclass(frozen=True)
class RotationError:
    """`absolute` in eV; `relative` to the mean absolute element of the predicted H."""

    absolute: float
    relative: float
    n_structures: int
    n_rotations: int


class Predictor(Protocol):
    """The method of a model that `rotation_errors` calls."""

    def predict_stages(
        self,
        structures: Sequence[Atoms],
        priors: Sequence[BlockMatrix | None] | None = None,
        stages: Sequence[str] | None = None,
    ) -> dict[str, list[BlockMatrix]]: ...


def evaluate(
    predictions: Iterable[Prediction],
    rotations: Mapping[str, RotationError] | None = None,
    reference: Evaluation | None = None,
) -> Evaluation:
    """Compute all metrics of a test set. Goes through `predictions` once and keeps none of them.

    Orbital metrics are for molecules with S and a number of electrons. Bands are for crystals with S and a Fermi level
    or a number of electrons (`band_metrics`). Samples without these are left out of those metrics.

    Args:
        predictions: predictions of the same stages for each sample.
        rotations: rotation errors by stage (`rotation_errors`), copied into the result.
        reference: an evaluation of the same samples, whose worst samples and block are the challenging ones. Default:
            stage 1.

    Raises:
        MatrixError: a prediction has other blocks than its sample or is not finite, S is not positive definite (the
            message names the sample), there is no sample, or `reference` lacks one.
    """
    samples, counts, sums, coverage, stages = [], [], {}, CoverageCounter(), ()
    for prediction in predictions:
        stages = stages or tuple(prediction.stages)
        _check(prediction, stages)
        coverage.add(prediction)
        h, error = prediction.sample.hamiltonian, _absolute_errors(prediction)
        sums = total([sums, block_sums(h, error)])
        counts.append(h.spin.n_components * int(_weights(h).sum()))
        samples.append(_evaluate_sample(prediction, error))
    if not samples:
        raise MatrixError("evaluation: expected at least one sample, got none")
    blocks = block_errors(sums, stages)
    sample_ranking, block_ranking = _rankings(samples, blocks, reference)
    worst = np.argsort(sample_ranking)[::-1][: -(-len(samples) // 20)]  # 5 per cent, rounded up
    worst_block = blocks[int(np.argmax(block_ranking))]
    rotations = rotations or {}
    return Evaluation(
        n_samples=len(samples),
        n_elements=sum(counts),
        stages={
            stage: _stage_metrics(
                [s.errors[stage] for s in samples], counts, worst, worst_block.mae[stage], rotations.get(stage)
            )
            for stage in stages
        },
        blocks=blocks,
        samples=tuple(samples),
        challenging_samples=tuple(samples[k].name for k in worst),
        challenging_block=worst_block.label,
        coverage=coverage.result(),
    )


def rotation_errors(
    model: Predictor,
    structures: Sequence[Atoms],
    n_rotations: int = 4,
    seed: int = 0,
    stages: Sequence[str] = ("full",),
    priors: Sequence[BlockMatrix | None] | None = None,
) -> dict[str, RotationError]:
    """Mean |H(Qx) - D(Q) H(x) D(Q)^T| over elements, structures and random rotations Q, by stage.

    `priors` (one per structure, or None) are rotated with the structure. Without them a model that needs a prior
    computes it for both orientations, each with the noise of its own integration grid.
    """
    generator = np.random.default_rng(seed)
    errors: dict[str, list[float]] = {stage: [] for stage in stages}
    sizes: dict[str, list[float]] = {stage: [] for stage in stages}
    for k, atoms in enumerate(structures):
        prior = priors[k] if priors is not None else None
        at_rest = model.predict_stages([atoms], [prior], stages)
        for stage in stages:
            sizes[stage].append(mean_absolute(at_rest[stage][0]))
        for _ in range(n_rotations):
            q = random_rotation(generator)
            rotated = model.predict_stages([_rotated(atoms, q)], [prior.rotate(q) if prior else None], stages)
            for stage in stages:
                errors[stage].append(mean_absolute(rotated[stage][0] - at_rest[stage][0].rotate(q)))
    if not (structures and n_rotations):
        raise MatrixError(f"rotation error: expected structures and rotations, got {len(structures)} and {n_rotations}")
    counts = len(structures), n_rotations
    means = {stage: (float(np.mean(errors[stage])), float(np.mean(sizes[stage]))) for stage in stages}
    return {stage: RotationError(e, e / size if size else 0.0, *counts) for stage, (e, size) in means.items()}


def rotation_error(
    model: Predictor,
    structures: Sequence[Atoms],
    n_rotations: int = 4,
    seed: int = 0,
    stage: str = "full",
    priors: Sequence[BlockMatrix | None] | None = None,
) -> RotationError:
    """`rotation_errors` of one stage."""
    return rotation_errors(model, structures, n_rotations, seed, (stage,), priors)[stage]


def _rotated(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T, scale_atoms=False)
    turned.positions = atoms.positions @ rotation.T
    return turned


def mean_absolute(operator: BlockMatrix) -> float:
    """Mean absolute element of the whole matrix, in the units of `operator`."""
    return float(np.average(absolute(operator.values), axis=1, weights=_weights(operator)).mean())


def wavefunction_similarity(predicted: MolecularOrbitals, reference: MolecularOrbitals) -> float | None:
    """Mean over occupied orbitals of |c . c'| / (|c| |c'|), the plain cosine of the coefficient vectors, without S.

    Orbitals of the reference within `DEGENERATE` of their neighbour in energy, such as Kramers pairs, are compared as
    one subspace: by the cosines of the principal angles between the two spans. None without occupied orbitals.
    """
    n = reference.n_occupied
    if n == 0:
        return None
    c, c_ref = predicted.coefficients[:, :n], reference.coefficients[:, :n]
    cosines = np.abs((c.conj() * c_ref).sum(axis=0)) / np.linalg.norm(c, axis=0) / np.linalg.norm(c_ref, axis=0)
    edges = np.flatnonzero(np.diff(reference.energies[:n]) > DEGENERATE) + 1
    for subspace in np.split(np.arange(n), edges):
        if len(subspace) > 1:
            span, span_ref = np.linalg.qr(c[:, subspace])[0], np.linalg.qr(c_ref[:, subspace])[0]
            cosines[subspace] = np.linalg.svd(span.conj().T @ span_ref, compute_uv=False)
    return float(np.minimum(cosines, 1).mean())


def solved_orbitals(prediction: Prediction) -> dict[str, MolecularOrbitals] | None:
    """Orbitals of the DFT matrix ("dft") and of each stage, all with the sample's S.

    None where there is no single set to compare: no S, no number of electrons, two spins, or a periodic structure.
    """
    solved = _solved_spins(prediction)
    return {name: sets[0] for name, sets in solved.items()} if solved and len(solved["dft"]) == 1 else None


def _solved_spins(prediction: Prediction) -> dict[str, tuple[MolecularOrbitals, ...]] | None:
    """As `solved_orbitals`, for both collinear spins; each spin has as many occupied orbitals as in DFT."""
    sample = prediction.sample
    if sample.overlap is None or sample.n_electrons is None or is_periodic(sample.hamiltonian):
        return None
    s, n = sample.overlap, sample.n_electrons
    try:
        dft = spin_orbitals(sample.hamiltonian, s, n)
        occupied = [orbitals.n_occupied for orbitals in dft]
        return {"dft": dft, **_each_stage(prediction, lambda h: spin_orbitals(h, s, n, occupied))}
    except HarmoseError as error:
        raise MatrixError(f"sample {sample.name}: {error}") from None


def _each_stage(prediction: Prediction, compute: Callable[[BlockMatrix], T]) -> dict[str, T]:
    """The result of `compute` by stage; it is called once for stages that share one matrix object."""
    results: dict[int, T] = {}
    for h in prediction.stages.values():
        if id(h) not in results:
            results[id(h)] = compute(h)
    return {stage: results[id(h)] for stage, h in prediction.stages.items()}


def _check(prediction: Prediction, stages: tuple[str, ...]) -> None:
    reference, name = prediction.sample.hamiltonian, prediction.sample.name
    if tuple(prediction.stages) != stages:
        raise MatrixError(f"sample {name}: expected the stages {', '.join(stages)}, got {', '.join(prediction.stages)}")
    for stage, h in prediction.stages.items():
        where = f"sample {name}, {stage} prediction"
        if not same_orbitals(h, reference) or h.spin is not reference.spin:
            raise MatrixError(f"{where}: expected the atoms, shells and spin of the sample, got others")
        if not np.array_equal(h.pairs, reference.pairs):
            raise MatrixError(f"{where}: expected the {len(reference.pairs)} pairs of the sample, got {len(h.pairs)}")
        if not np.isfinite(h.values).all():
            raise MatrixError(f"{where}: expected finite values, got NaN or infinity")


def _absolute_errors(prediction: Prediction) -> np.ndarray:
    """|H_predicted - H_DFT| of every stored value, by stage (n_stages, n_components, size)."""
    reference = prediction.sample.hamiltonian.values
    return np.stack([absolute(h.values - reference) for h in prediction.stages.values()])


def _weights(layout: BlockMatrix) -> np.ndarray:
    """Number of elements of the whole matrix that each stored value stands for (size,)."""
    return np.repeat(layout.multiplicity, np.diff(layout.offsets))


def _evaluate_sample(prediction: Prediction, error: np.ndarray) -> EvaluatedSample:
    mae = np.average(error, axis=2, weights=_weights(prediction.sample.hamiltonian)).mean(axis=1)
    spectra = _spectral_errors(prediction)
    errors = {stage: Errors(mae=float(e), **spectra.get(stage, {})) for stage, e in zip(prediction.stages, mae)}
    return EvaluatedSample(prediction.sample.name, prediction.sample.structure.get_chemical_formula(), errors)


def _spectral_errors(prediction: Prediction) -> dict[str, dict[str, float | None]]:
    """Errors of a molecule's orbitals or of a crystal's bands, by stage; empty where neither can be compared."""
    if prediction.sample.structure.pbc.any():
        distinct = {str(id(h)): h for h in prediction.stages.values()}
        errors = sample_band_errors(prediction.sample, distinct)
        if not errors:
            return {}
        return {stage: _band_errors(errors[str(id(h))]) for stage, h in prediction.stages.items()}
    orbitals = _solved_spins(prediction)
    if orbitals is None:
        return {}
    coupling = _each_stage(prediction, lambda h: _coupling_errors(prediction, h))
    return {stage: _orbital_errors(orbitals[stage], orbitals["dft"]) | coupling[stage] for stage in prediction.stages}


def _band_errors(errors: BandErrors) -> dict[str, float | None]:
    split = errors.splittings
    return {
        "bands": errors.mae,
        "band_gap": errors.gap,
        "splittings": split and split.mae,
        "splittings_relative": split and split.relative,
        "ghost_states": float(errors.ghost_states),
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
        **{name: _difference(a, b) for name, a, b in zip(FRONTIER, frontier(predicted), frontier(reference))},
    }


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else abs(a - b)


def spin_orbit_shifts(h: BlockMatrix, s: BlockMatrix, n_electrons: float) -> np.ndarray:
    """Shifts of the occupied orbital energies by spin-orbit coupling, shape (n_electrons / 2,), in eV.

        shift_p = e_p(H) - e_p(H_0)

    for each occupied Kramers pair p in ascending order; H_0 is the scalar part of H. Both are solved with the same S.
    Where orbital energies of H_0 are degenerate, differences of shifts are splittings. Raises `MatrixError` as
    `spin_orbitals`.
    """
    (coupled,), (alone,) = spin_orbitals(h, s, n_electrons), spin_orbitals(scalar_part(h), s, n_electrons)
    pairs = coupled.energies[: coupled.n_occupied].reshape(-1, 2).mean(1)
    return pairs - alone.energies[: alone.n_occupied]


def scalar_part(h: BlockMatrix) -> BlockMatrix:
    """The part H_0 (spin none) of a spinor operator that does not act on spin."""
    return BlockMatrix(h.basis, h.numbers, h.pairs, h.spin.to_channels(h.values)[:1] / np.sqrt(2))


def _coupling_errors(prediction: Prediction, h: BlockMatrix) -> dict[str, float | None]:
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
    """Errors of the reference for these samples and blocks."""
    if reference is None:
        stages = list(samples[0].errors)
        stage = REFERENCE_STAGE if REFERENCE_STAGE in stages else stages[0]
        return [sample.errors[stage].mae for sample in samples], [block.mae[stage] for block in blocks]
    by_sample = {sample.name: sample.full.mae for sample in reference.samples}
    by_block = {block.label: block.full for block in reference.blocks}
    try:
        return [by_sample[sample.name] for sample in samples], [by_block[block.label] for block in blocks]
    except KeyError as missing:
        raise MatrixError(f"reference evaluation: expected the same samples and blocks, got no {missing}") from None


def _stage_metrics(
    samples: list[Errors], counts: list[int], worst: np.ndarray, block: float, rotation: RotationError | None
) -> StageMetrics:
    mae = np.array([sample.mae for sample in samples])
    averaged = (field.name for field in fields(Errors) if field.name not in ("mae", "ghost_states"))
    ghosts = [sample.ghost_states for sample in samples if sample.ghost_states is not None]
    return StageMetrics(
        mae=float(mae.mean()),
        mae_elements=float(np.average(mae, weights=counts)),
        mae_challenging_samples=float(mae[worst].mean()),
        mae_challenging_block=block,
        worst=float(mae.max()),
        rotation_error=rotation.absolute if rotation else None,
        rotation_error_relative=rotation.relative if rotation else None,
        ghost_states=sum(ghosts) if ghosts else None,
        **{name: _mean([getattr(sample, name) for sample in samples]) for name in averaged},
    )


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
