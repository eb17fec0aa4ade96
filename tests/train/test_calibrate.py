"""A trained model knows its errors: bounds from samples outside its training set, in its files, its predictions and its reports."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harmose.cli import main
from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.evaluate.coverage import CoverageCounter
from harmose.evaluate.evaluation import Prediction
from harmose.inference.checkpoint import load, save
from harmose.io.files import read
from harmose.representation.concatenation import TargetSettings, compute_targets
from harmose.train.calibrate import HALVES, calibrated_on, with_last_layer
from harmose.train.dataset import ValidationSet
from harmose.train.fit import Fit


@pytest.fixture
def many_waters(tmp_path, water_basis, water_sample):
    """40 samples: 15 to train on, 15 to calibrate on, 10 to test."""
    path = tmp_path / "many"
    with Store.create(path, water_basis, metadata={"functional": "hf", "basis": "sto-3g", "code": "pyscf"}) as store:
        store.append_all(water_sample(k) for k in range(40))
        names = store.names()
        store.set_splits({"train": names[:15], "val": names[15:30], "test": names[30:]})
    return path


@pytest.fixture
def model(untrained_model, many_waters, tmp_path):
    """Fitted to six waters, calibrated on fifteen others; weights are random."""
    known = load(untrained_model)
    known = replace(known, card=replace(known.card, settings={**known.card.settings, "code": "pyscf"}))
    with Store.open(many_waters) as store:
        found = calibrated_on(known, store, store.splits["train"][:6], store.splits["val"])
    save(found, tmp_path / "calibrated")
    return tmp_path / "calibrated"


def test_bounds_are_kept_by_new_samples(model, many_waters):
    known, counter = load(model), CoverageCounter()
    assert known.card.calibration == {
        "samples": 15,
        "left_out_training_samples": 0,
        "groups": 15,
        "highest_confidence": 0.9,
    }
    with Store.open(many_waters) as store:
        samples = [store[name] for name in store.splits["test"]]
    structures, overlaps = [s.structure for s in samples], [s.overlap for s in samples]
    for sample, u in zip(samples, known.uncertainty_many(structures, overlaps=overlaps)):
        assert u.blocks.shape == (6,)
        assert u.orbital_bounds.shape == u.orbital_energies.shape == (7,)
        counter.add(Prediction(sample, {"full": u.hamiltonian}, u))
    coverage = counter.result()
    assert coverage.counts == {"blocks": 60, "occupied": 50, "unoccupied": 20, "homo": 10, "lumo": 10, "gap": 10}
    assert min(coverage.stated(name) for name in ("blocks", "occupied")) > 0.7
    assert coverage.shares["blocks"][0] < 0.85  # half of them, as stated, not all


def test_a_prediction_and_its_bounds(model, water_atoms):
    known, atoms = load(model), water_atoms(50)
    u = known.uncertainty(atoms)
    np.testing.assert_array_equal(u.hamiltonian.values, known.predict(atoms).values)
    assert u.confidence == 0.9
    assert u.gap.value == pytest.approx(u.lumo.value - u.homo.value)
    assert (u.at(0.5).blocks <= u.blocks).all()
    assert u.at(0.5).gap.bound <= u.gap.bound
    assert u.expected_error == pytest.approx(known.expected_errors([atoms])[0])
    assert "±" in str(u.gap)
    with pytest.raises(ModelError, match=r"15 independent samples, which support confidences up to 0\.9; got 0\.99"):
        known.uncertainty(atoms, confidence=0.99)


def test_bounds_do_not_turn_with_the_molecule(model, water_atoms):
    known, atoms = load(model), water_atoms(51)
    turned = atoms.copy()
    turned.rotate(73, (1, 2, 3))
    np.testing.assert_allclose(known.uncertainty(turned).blocks, known.uncertainty(atoms).blocks, rtol=1e-3)
    np.testing.assert_allclose(
        known.uncertainty(turned).orbital_bounds, known.uncertainty(atoms).orbital_bounds, rtol=1e-3
    )


@pytest.mark.filterwarnings("ignore:outside the training domain")
def test_far_away_is_flagged_and_has_no_bounds(model, water_atoms):
    known, atoms = load(model), water_atoms(52)
    far = atoms.copy()
    far.positions[1] *= 1.5
    near, away = known.uncertainty(atoms), known.uncertainty(far)
    assert away.outside
    assert away.expected_error > 3 * near.expected_error
    assert np.isinf(away.blocks).all()
    assert np.isinf(away.gap.bound)
    assert set(away.summary()) == {"confidence", "outside", "expected_error"}
    (scores,) = known._predict([far], None, ("full",), None).scores
    assert away.reasons == tuple(scores.reasons) != ()
    assert away.unused == tuple(scores.unused)
    assert any(text.startswith("network not used for") for text in away.unused)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_network_fades_as_soon_as_that_does_no_harm(untrained_model, many_waters, monkeypatch, share):
    """At once where the labels have no share in its outputs, and never where they are its outputs."""
    known = load(untrained_model)  # its second stage is zero

    def mae(self, predict):
        errors = []
        for part in self.parts:
            with torch.no_grad():
                outputs, expected = predict(part.batch), known.network(part.batch)
            errors += [(outputs.pairs[g] - share * x).abs().sum() for g, x in expected.pairs.items()]
            errors += [(outputs.onsite[s] - share * x).abs().sum() for s, x in expected.onsite.items()]
        return float(sum(errors))

    monkeypatch.setattr(ValidationSet, "mae", mae)
    with Store.open(many_waters) as store:
        fit = Fit(known.normalizer, known.domain, known.regression)
        validation = ValidationSet(store, store.splits["val"], fit, TargetSettings())
        samples = [store[name] for name in store.splits["train"]]
        faded = with_last_layer(known, validation, [compute_targets(known.space, samples, TargetSettings()).batch])
    std = [faded.last_layer.std(known.network, part.batch) for part in validation.parts]
    largest = np.quantile(np.concatenate([x for pair in std for x in pair]), 0.95)
    assert (min(HALVES), max(HALVES)) == (0.5, np.inf)
    assert faded.last_layer.half[0] == pytest.approx(np.inf if share else 0.5 * largest)
    assert faded.last_layer.half[1] == pytest.approx(0.5 * largest)
    assert with_last_layer(replace(known, network=None), validation, []).last_layer is None


def test_without_calibration_one_line(untrained_model, water_atoms):
    with pytest.raises(ModelError, match="the model was not calibrated: `harmose calibrate MODEL STORE` does it"):
        load(untrained_model).uncertainty(water_atoms(0))


def test_few_samples_are_joined_by_training_samples_left_out(untrained_model, many_waters):
    with Store.open(many_waters) as store:
        names, few = store.splits["train"], store.splits["val"][:1]
        alone = calibrated_on(load(untrained_model), store, names, few)
        found = calibrated_on(load(untrained_model), store, names, few, refit=True)
    assert (alone.calibration.n_groups, alone.calibration.highest) == (1, 0.5)
    assert found.card.calibration["left_out_training_samples"] == 15
    assert (found.calibration.n_groups, found.calibration.highest) == (16, 0.9)


def test_commands(model, many_waters, water_atoms, tmp_path, capsys):
    from ase.io import read as read_structures
    from ase.io import write

    near, far = water_atoms(53), water_atoms(53)
    far.positions[1] *= 1.4
    write(tmp_path / "pool.xyz", [near, far])
    write(tmp_path / "near.xyz", near)
    assert (
        main(["rank", str(model), str(tmp_path / "pool.xyz"), "--out", str(tmp_path / "next.xyz"), "--first", "1"]) == 0
    )
    np.testing.assert_allclose(read_structures(tmp_path / "next.xyz").positions, far.positions, atol=1e-6)
    assert main(["predict", str(model), str(tmp_path / "near.xyz"), "--out", str(tmp_path / "near.npz")]) == 0
    out = capsys.readouterr().out
    assert "±" in out
    assert "expected H MAE" in out
    with np.load(tmp_path / "near.npz") as file:
        assert file["block_bounds"].shape == (6,)
        assert float(file["confidence"]) == 0.9
    assert read(tmp_path / "near.npz").hamiltonian is not None
    assert main(["evaluate", str(model), str(many_waters), "--out", str(tmp_path / "e"), "--rotations", "0"]) == 0
    assert "errors within the bounds of 90 % confidence: blocks of H" in capsys.readouterr().out
    assert "<h2>Uncertainty</h2>" in (tmp_path / "e" / "report.html").read_text()
    assert main(["calibrate", str(model), str(many_waters), "--split", "test"]) == 0
    assert "10 samples, 10 of them independent: bounds up to 90 %" in capsys.readouterr().out
