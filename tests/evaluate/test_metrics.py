"""Metrics against dense matrices, physical laws, and figures that others published for the same data."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import eigh
from scipy.spatial.transform import Rotation

from harmose.core.basis import BasisSet, Shell
from harmose.core.blocks import BlockMatrix, empty_matrix
from harmose.core.sample import Sample
from harmose.errors import MatrixError
from harmose.evaluate.evaluation import Prediction
from harmose.evaluate.metrics import evaluate, rotation_error, rotation_errors, wavefunction_similarity
from harmose.io.pyscf import pyscf as io
from harmose.physics.eigen import MolecularOrbitals, molecular_orbitals
from harmose.so3.wigner import random_rotation, shells_wigner
from harmose.spin import Spin
from harmose.units import MICRO_HARTREE

S_BASIS = BasisSet("s", {1: (Shell(1, 0),), 2: (Shell(1, 0), Shell(2, 0))}, {1: 2.0, 2: 2.0})


def turned(prediction: Prediction, q: np.ndarray) -> Prediction:
    sample = prediction.sample
    matrices = {"hamiltonian": sample.hamiltonian.rotate(q), "overlap": sample.overlap.rotate(q)}
    return Prediction(replace(sample, **matrices), {stage: h.rotate(q) for stage, h in prediction.stages.items()})


def test_no_error(water_sample):
    same = [Prediction(s, {"stage1": s.hamiltonian, "full": s.hamiltonian}) for s in map(water_sample, range(3))]
    evaluation = evaluate(same)
    for stage in evaluation.stages.values():
        errors = (
            stage.mae,
            stage.mae_elements,
            stage.mae_challenging_samples,
            stage.mae_challenging_block,
            stage.worst,
        )
        assert errors == (0, 0, 0, 0, 0)
        assert (stage.orbital_energy, stage.homo, stage.lumo, stage.gap) == (0, 0, 0, 0)
        assert stage.wavefunction == pytest.approx(1, abs=1e-14)
    assert all(block.full == 0 for block in evaluation.blocks)
    assert evaluation.compared_stages is None


def test_mae_is_the_mean_over_the_dense_matrix(predictions):
    made = predictions(4)
    evaluation = evaluate(made)
    for stage, metrics in evaluation.stages.items():
        dense = [np.abs((p.stages[stage] - p.sample.hamiltonian).dense()) for p in made]
        each = [sample.errors[stage].mae for sample in evaluation.samples]
        np.testing.assert_allclose(each, [d.mean() for d in dense], rtol=1e-12)
        assert metrics.mae == pytest.approx(np.mean(each), rel=1e-12)
        assert metrics.mae_elements == pytest.approx(np.mean(dense), rel=1e-12)
        assert metrics.worst == max(each)
    assert evaluation.n_elements == 4 * 7**2


def test_any_stages(predictions):
    """Each stage has the metrics that it has alone; the whole model is the last stage before the network alone."""
    made = predictions(3)
    four = [
        replace(
            p, stages={"regression": p.stages["full"], **p.stages, "network": p.stages["stage1"] + p.stages["stage1"]}
        )
        for p in made
    ]
    evaluation = evaluate(four)
    assert list(evaluation.stages) == ["regression", "stage1", "full", "network"]
    assert evaluation.full == evaluation.stages["full"]
    for stage, metrics in evaluation.stages.items():
        lone = evaluate([replace(p, stages={"full": p.stages[stage]}) for p in four]).full
        assert metrics.mae == lone.mae
        assert metrics.orbital_energy == lone.orbital_energy
    assert evaluate([replace(p, stages={"regression": p.full}) for p in made]).full.mae == evaluation.full.mae


def test_larger_molecules_weigh_more_in_mae_elements(water_sample):
    water, hydrogen = water_sample(0), io.overlap(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), "sto-3g")
    small = Sample("h2", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), hydrogen.basis, hydrogen)
    right = [Prediction(s, {"full": s.hamiltonian}) for s in (water, small)]
    wrong = replace(right[1], stages={"full": hydrogen.with_values(hydrogen.values + 1.0)})
    full = evaluate([right[0], wrong]).full
    assert full.mae == pytest.approx(1 / 2)
    assert full.mae_elements == pytest.approx(4 / (49 + 4))


def test_orbital_errors(predictions):
    made = predictions(3)
    evaluation = evaluate(made)
    for p, errors in zip(made, evaluation.samples, strict=True):
        s = p.sample.overlap.dense()
        (e, c), (e_ref, c_ref) = (eigh(h.dense(), s) for h in (p.stages["stage1"], p.sample.hamiltonian))
        c, c_ref = (x[:, :5] / np.linalg.norm(x[:, :5], axis=0) for x in (c, c_ref))
        stage1 = errors.errors["stage1"]
        assert stage1.orbital_energy == pytest.approx(np.abs(e - e_ref)[:5].mean(), rel=1e-6)
        assert stage1.homo == pytest.approx(abs(e - e_ref)[4], rel=1e-6)
        assert stage1.lumo == pytest.approx(abs(e - e_ref)[5], rel=1e-6)
        assert stage1.gap == pytest.approx(abs(e[5] - e[4] - e_ref[5] + e_ref[4]), rel=1e-6)
        assert stage1.wavefunction == pytest.approx(np.abs((c * c_ref).sum(axis=0)).mean(), abs=1e-12)
    assert 0.9 < evaluation.stages["stage1"].wavefunction < 1 - 1e-9


def test_invariant_metrics(predictions):
    made, q = predictions(2), Rotation.random(random_state=3).as_matrix()
    at_rest, rotated = evaluate(made), evaluate([turned(p, q) for p in made])
    for name in ("orbital_energy", "homo", "lumo", "gap", "wavefunction"):
        assert getattr(rotated.full, name) == pytest.approx(getattr(at_rest.full, name), abs=1e-9)
    for a, b in zip(at_rest.blocks, rotated.blocks, strict=True):
        if "p" not in a.shells[0] + a.shells[1]:
            assert b.full == pytest.approx(a.full, rel=1e-9)


def test_degenerate_orbitals():
    """Neon: a splitting of 1e-9 eV mixes the three p orbitals arbitrarily; the similarity stays 1."""
    neon = io.overlap(Atoms("Ne"), "sto-3g")
    h = neon.with_values(np.diag([-890.0, -52.0, -23.0, -23.0, -23.0]).reshape(1, -1))
    noise = np.random.default_rng(0).normal(size=(5, 5)) * 1e-9
    predicted = h.with_values(h.values + (noise + noise.T).reshape(1, -1))
    reference, other = (molecular_orbitals(x, neon.with_values(np.eye(5).reshape(1, -1)), 10) for x in (h, predicted))
    plain = np.abs((reference.coefficients * other.coefficients).sum(axis=0)).mean()
    assert plain < 0.95
    assert wavefunction_similarity(other, reference) == pytest.approx(1, abs=1e-9)


def test_wrong_orbital_in_a_degenerate_subspace():
    """Two degenerate occupied orbitals; the prediction replaces one of them by an empty orbital."""
    energies, unit = np.array([-1.0, -1.0, 0.5]), np.eye(3)
    reference = replace(_orbitals(energies, unit), n_occupied=2)
    predicted = replace(_orbitals(energies, unit[:, [0, 2, 1]]), n_occupied=2)
    assert wavefunction_similarity(predicted, reference) == pytest.approx(0.5)
    assert wavefunction_similarity(replace(predicted, n_occupied=0), replace(reference, n_occupied=0)) is None


def _orbitals(energies, coefficients):
    return MolecularOrbitals(energies, coefficients, 1)


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (20, 1), (21, 2), (40, 2)])
def test_challenging_samples(predictions, n, expected):
    made = predictions(n, full=2.0)
    evaluation = evaluate(made)
    worst = sorted(evaluation.samples, key=lambda sample: -sample.errors["stage1"].mae)[:expected]
    assert evaluation.challenging_samples == tuple(sample.name for sample in worst)
    assert evaluation.full.mae_challenging_samples == pytest.approx(np.mean([sample.full.mae for sample in worst]))


def test_challenging_samples_of_another_model(predictions):
    made = predictions(5)
    wrong = Prediction(made[0].sample, {"full": _wrong_on_site(made[0].sample.hamiltonian)})
    other = evaluate([wrong, *(Prediction(p.sample, {"full": p.sample.hamiltonian}) for p in made[1:])])
    evaluation = evaluate(made, reference=other)
    assert evaluation.challenging_samples == ("water-0",)
    assert evaluation.challenging_block == "O 1s – O 1s on-site"
    assert evaluation.full.mae_challenging_samples == pytest.approx(evaluation.samples[0].full.mae)
    with pytest.raises(MatrixError, match="got no 'water-5'"):
        evaluate(predictions(6), reference=other)


def _wrong_on_site(h: BlockMatrix) -> BlockMatrix:
    values = h.values.copy()
    values[0, 0] += 1.0
    return h.with_values(values)


def test_pairs_count_twice():
    """A chain of hydrogen: on site 1 element of weight 1, to the next cell 1 of weight 2."""
    chain = empty_matrix(S_BASIS, np.array([1]), np.array([[0, 0, 0, 0, 1]]))
    atoms = Atoms("H", cell=[5, 5, 1.5], pbc=[False, False, True])
    wrong = chain.with_values(np.array([[3.0, 6.0]]))
    full = evaluate([Prediction(Sample("chain", atoms, S_BASIS, chain), {"full": wrong})]).full
    assert full.mae == pytest.approx((3 + 2 * 6) / 3)
    assert full.orbital_energy is None


def test_mae_of_spins_and_complex_elements():
    atoms, numbers, pairs = Atoms("H", cell=[5, 5, 1.5], pbc=[0, 0, 1]), np.array([1]), np.array([[0, 0, 0, 0, 1]])
    for spin, error, expected in (
        (Spin.COLLINEAR, [[1.0, 0.0], [0.0, 2.0]], (1 + 2 * 2) / 6),
        (Spin.SPINOR, [[0, 3 + 4j], [0, 0], [0, 0], [0, 0]], 2 * 7 / 2 / 12),
    ):
        h = empty_matrix(S_BASIS, numbers, pairs, spin)
        sample = Sample("chain", atoms, S_BASIS, h, spin=spin)
        assert evaluate([Prediction(sample, {"full": h.with_values(np.array(error))})]).full.mae == pytest.approx(
            expected
        )


def test_bad_predictions(predictions):
    (made,) = predictions(1)
    sample, h = made.sample, made.full

    def with_stage(stage: str, other: BlockMatrix) -> Prediction:
        return replace(made, stages={**made.stages, stage: other})

    with pytest.raises(MatrixError, match="sample water-0, full prediction: expected the 3 pairs of the sample, got 2"):
        evaluate([with_stage("full", BlockMatrix(h.basis, h.numbers, h.pairs[:2], h.values[:, : h.offsets[5]]))])
    other = io.overlap(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), "sto-3g")
    with pytest.raises(MatrixError, match="stage1 prediction: expected the atoms, shells and spin"):
        evaluate([with_stage("stage1", other)])
    with pytest.raises(MatrixError, match="finite values, got NaN"):
        evaluate([with_stage("full", h.with_values(h.values * np.inf))])
    with pytest.raises(MatrixError, match="sample water-0: expected the stages stage1, full, got full"):
        evaluate([made, replace(made, stages={"full": h})])
    with pytest.raises(MatrixError, match="sample water-0: S is not positive definite"):
        evaluate([replace(made, sample=replace(sample, overlap=sample.overlap.with_values(-sample.overlap.values)))])
    with pytest.raises(MatrixError, match="sample water-0: expected an even number of electrons"):
        evaluate([replace(made, sample=replace(sample, n_electrons=9.0))])
    with pytest.raises(MatrixError, match="at least one sample"):
        evaluate([])


def test_samples_without_overlap_or_electrons(predictions):
    first, second = predictions(2)
    alone = evaluate([replace(first, sample=replace(first.sample, overlap=None))])
    assert alone.full.orbital_energy is None
    assert alone.full.wavefunction is None
    both = evaluate([replace(first, sample=replace(first.sample, n_electrons=None)), second])
    assert both.full.orbital_energy == pytest.approx(evaluate([second]).full.orbital_energy)


class Physical:
    """A "model": the kinetic energy, which is equivariant, with the constant `bias` added to each element."""

    def __init__(self, bias: float = 0.0):
        self.bias = bias

    def predict(self, atoms, prior=None, stage="full"):
        s = io.overlap(atoms, "sto-3g")
        t = io.to_blocks(io.molecule(atoms, "sto-3g").intor("int1e_kin"), s)
        t = t if prior is None else t + prior
        return t.with_values(t.values + (self.bias if stage == "full" else 0.0))

    def predict_stages(self, structures, priors=None, stages=("full",)):
        priors = priors or [None] * len(structures)
        return {stage: [self.predict(*each, stage=stage) for each in zip(structures, priors)] for stage in stages}


def test_rotation_error_of_an_equivariant_model(water_atoms):
    error = rotation_error(Physical(), [water_atoms(0), water_atoms(1)], n_rotations=3, seed=1)
    assert error.absolute < 1e-12
    assert error.relative < 1e-13
    assert (error.n_structures, error.n_rotations) == (2, 3)


def test_rotation_error(water_atoms):
    """A constant in each element is invariant for s orbitals only."""
    atoms = water_atoms(0)
    error = rotation_error(Physical(0.1), [atoms], n_rotations=2, seed=5)
    generator, expected = np.random.default_rng(5), []
    for _ in range(2):
        d = np.eye(7)
        d[:5, :5] = shells_wigner((0, 0, 1), random_rotation(generator))
        constant = np.full((7, 7), 0.1)
        expected.append(np.abs(constant - d @ constant @ d.T).mean())
    assert error.absolute == pytest.approx(np.mean(expected), rel=1e-9)
    assert error.relative == pytest.approx(error.absolute / np.abs(Physical(0.1).predict(atoms).dense()).mean())
    assert rotation_error(Physical(0.1), [atoms], n_rotations=2, seed=5) == error
    assert rotation_error(Physical(0.1), [atoms], n_rotations=2, seed=5, stage="stage1").absolute < 1e-12


def test_rotation_error_with_priors(water_atoms, water_sample):
    sample = water_sample(0)
    error = rotation_error(Physical(), [sample.structure], n_rotations=2, priors=[sample.prior])
    assert error.absolute < 1e-10


def test_rotation_error_needs_structures():
    with pytest.raises(MatrixError, match="expected structures and rotations, got 0 and 4"):
        rotation_error(Physical(), [])


def test_rotation_errors_of_several_stages(predictions, water_atoms):
    errors = rotation_errors(Physical(0.1), [water_atoms(0)], 1, stages=("stage1", "full"))
    for stage, error in errors.items():
        assert error == rotation_error(Physical(0.1), [water_atoms(0)], 1, stage=stage)
    evaluation = evaluate(predictions(1), errors)
    assert evaluation.full.rotation_error == errors["full"].absolute
    assert evaluation.stages["stage1"].rotation_error_relative == errors["stage1"].relative


@pytest.mark.parametrize(
    ("name", "mae", "orbital_energy", "wavefunction"),
    [("water", 17_111, 166_305, 0.987), ("ethanol", 6_317, 107_291, 0.799)],
)
def test_errors_of_superposed_atoms(shared_data, name, mae, orbital_energy, wavefunction):
    """The published figures are for another test set of the same kind, so they agree to some per cent."""
    full = evaluate(_superposed_atoms(shared_data / "molecules" / f"{name}.npz")).full
    assert full.mae / MICRO_HARTREE == pytest.approx(mae, rel=0.02)
    assert full.orbital_energy / MICRO_HARTREE == pytest.approx(orbital_energy, rel=0.02)
    assert full.wavefunction == pytest.approx(wavefunction, abs=0.03)


def _superposed_atoms(path):
    data = dict(np.load(path))
    basis = io.basis_set("def2-svp", np.unique(data["z"]))
    for k in data["val"]:
        atom, tri = slice(*data["atom_ptr"][k : k + 2]), slice(*data["tri_ptr"][k : k + 2])
        atoms = Atoms(data["z"][atom], data["pos"][atom])
        blocks, upper = io.zeros(atoms, basis), np.triu_indices(data["nao"][k])
        matrices = {}
        for key in ("F", "S", "F0"):
            dense = np.zeros((data["nao"][k],) * 2)
            dense[upper] = dense.T[upper] = data[key][tri]
            matrices[key] = io.to_blocks(dense, blocks, energy=key != "S")
        n_electrons = float(data["n_electrons"][k])
        sample = Sample(f"{k}", atoms, basis, matrices["F"], matrices["S"], n_electrons=n_electrons)
        yield Prediction(sample, {"full": matrices["F0"]})


def test_bands_of_crystals(crystals):
    result = evaluate(crystals)
    assert result.stages["stage1"].bands == pytest.approx(0.02 / 4)
    assert result.full.bands == pytest.approx(0.005 / 4)
    assert (result.stages["stage1"].ghost_states, result.full.ghost_states) == (0, 0)
    assert result.full.orbital_energy is None
    assert result.full.wavefunction is None


def test_ghost_states(crystals):
    fallen = crystals[0].sample.hamiltonian.values.copy()
    fallen[0, 15] = -3.0  # the empty orbital, now in a gap
    predictions = [replace(p, stages={"full": p.full.with_values(fallen)}) for p in crystals]
    result = evaluate(predictions)
    n_k = result.samples[0].full.ghost_states
    assert n_k > 10
    assert result.full.ghost_states == 2 * n_k


@pytest.mark.parametrize("change", [{"overlap": None}, {"n_electrons": None}])
def test_crystals_without_overlap_or_electrons(crystals, change):
    result = evaluate([replace(p, sample=replace(p.sample, **change)) for p in crystals])
    assert result.full.bands is None
    assert result.full.ghost_states is None
    assert result.full.mae > 0


@pytest.mark.parametrize("spin", [Spin.COLLINEAR, Spin.SPINOR])
def test_bands_of_any_spin(crystals, spin):
    """Spin up and down are equal; a spinor has each band twice."""

    def of_spin(h):
        zero = np.zeros_like(h.values[0])
        parts = [h.values[0]] * 2 if spin is Spin.COLLINEAR else [h.values[0], zero, zero, h.values[0]]
        return BlockMatrix(h.basis, h.numbers, h.pairs, np.array(parts, spin.dtype), spin)

    def turned(p):
        sample = replace(p.sample, spin=spin, hamiltonian=of_spin(p.sample.hamiltonian))
        return Prediction(sample, {stage: of_spin(h) for stage, h in p.stages.items()})

    result = evaluate([turned(p) for p in crystals])
    assert result.full.bands == pytest.approx(0.005 / 4, rel=1e-6)
    assert result.full.ghost_states == 0


def test_graphene(graphene):
    sample = graphene("mg_019")
    h, s = sample.hamiltonian, sample.overlap
    noise = np.random.default_rng(0).normal(size=h.values.shape)
    worse, better = (h.with_values(h.values + size * noise) for size in (3e-3, 3e-4))
    shifted = worse.with_values(worse.values - s.values)
    result = evaluate([Prediction(sample, {"stage1": shifted, "full": better})])
    # A tenth of the error in H is a tenth of the error in the bands, for any energy zero.
    assert result.reduction("bands") == pytest.approx(90, abs=1)
    assert 1e-4 < result.full.bands < 2e-3
    assert result.full.ghost_states == 0
