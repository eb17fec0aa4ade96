"""Training with known operators as input and with losses on levels, from a store to a model on disk that predicts."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.data.store import Store, new_store
from harmose.errors import ConfigError, FormatError, ModelError
from harmose.evaluate.metrics import rotation_error
from harmose.inference.checkpoint import load
from harmose.nn.stage1.inputs import InputSettings
from harmose.physics.overlap_filter import filter_correction
from harmose.train.calibrate import calibrated_on
from harmose.train.engine import train


@pytest.mark.parametrize("density", [False, True])
def test_a_model_that_reads_h0_s_and_the_density_of_h0(small_config, water_store, water_atoms, density):
    switches = ["inputs.prior=true", "inputs.overlap=true", f"inputs.density={density}"]
    model = load(train(small_config("run", "prior=H0", *switches)))
    assert model.card.inputs == InputSettings(prior=True, overlap=True, density=density)
    assert any(name.startswith("stage1.inputs.readers.overlap") for name in model.network.state_dict())
    assert any(name.startswith("stage1.inputs.readers.density") for name in model.network.state_dict()) == density
    assert model.regression.reads_charges == density
    with Store.open(water_store) as store:
        sample = store["water-6"]
    assert sample.prior is not None
    h = model.predict(sample.structure, sample.prior)
    error = np.abs((h - sample.hamiltonian).values).mean()
    assert error < np.abs((sample.prior - sample.hamiltonian).values).mean()
    # H0 is read as well as added: another one changes more than itself
    other = sample.prior.with_values(1.02 * sample.prior.values)
    changed = model.predict(sample.structure, other) - other
    assert np.abs((changed - (h - sample.prior)).values).max() > 1e-6
    many = model.predict_many([water_atoms(9), sample.structure], [None, sample.prior])
    np.testing.assert_allclose(many[1].values, h.values, atol=1e-4)
    turned = rotation_error(model, [sample.structure], 2, priors=[sample.prior], stage="stage1")
    assert turned.relative < 1e-6


@pytest.mark.parametrize("operator", ["prior", "overlap", "density"])
def test_a_model_that_reads_operators_is_calibrated_once_more(small_config, water_store, operator):
    model = load(train(small_config("run", "prior=H0", f"inputs.{operator}=true")))
    with Store.open(water_store) as store:
        again = calibrated_on(model, store, store.splits["train"], store.splits["val"])
    assert again.card.calibration["samples"] == 2


def test_corrections_are_trusted_as_far_as_the_overlap_shows_them(small_config, water_store):
    phases = ["phases.stage2.steps=0", "phases.joint.steps=0"]
    model = load(train(small_config("run", "prior=H0", "overlap_filter=0.3", *phases)))
    assert model.card.overlap_filter == 0.3
    with Store.open(water_store) as store:
        sample = store["water-6"]
    plain = replace(model, card=replace(model.card, overlap_filter=0.0))
    correction = plain.predict(sample.structure, sample.prior) - sample.prior
    expected = sample.prior + filter_correction(correction, sample.overlap, 0.3)
    np.testing.assert_allclose(model.predict(sample.structure, sample.prior).values, expected.values, atol=1e-9)
    with pytest.raises(ConfigError, match="expected prior H0 with overlap_filter"):
        small_config("other", "overlap_filter=0.3")


def test_h0_read_but_not_added(small_config, water_store):
    model = load(train(small_config("run", "inputs.prior=true", "phases.stage2.steps=0", "phases.joint.steps=0")))
    with Store.open(water_store) as store:
        sample = store["water-6"]
    given = model.predict(sample.structure, sample.prior)
    assert np.abs(given.values - sample.hamiltonian.values).mean() < np.abs(sample.hamiltonian.values).mean() / 10


@pytest.mark.parametrize("switch", ["shift_blind=true", "overlap_metric=0.1", "occupied=0.1", "eigenvalues=0.1"])
def test_each_loss_trains_to_other_weights(small_config, switch):
    plain = load(train(small_config("plain"))).network.state_dict()
    found = load(train(small_config("run", f"loss.{switch}"))).network.state_dict()
    assert all(value.isfinite().all() for value in found.values())
    assert any((found[name] != value).any() for name, value in plain.items())


def test_what_a_store_lacks_is_named(small_config, tmp_path, water_sample, water_basis):
    with new_store(tmp_path / "bare", water_basis) as store:
        for k in range(6):
            store.append(replace(water_sample(k), overlap=None, prior=None, n_electrons=None))
        names = store.names()
        store.set_splits({"train": names[:4], "val": names[4:]})
    for key, lacking in (
        ("inputs.prior=true", "a prior H0"),
        ("inputs.overlap=true", "an overlap S"),
        ("inputs.density=true", "the number of electrons"),
        ("loss.shift_blind=true", "an overlap S"),
        ("loss.occupied=1", "an overlap S"),
    ):
        with pytest.raises(FormatError, match=f"sample water-.: expected {lacking}, .* got none"):
            train(small_config(key.split("=")[0], f"data={tmp_path / 'bare'}", key))


def test_weights_without_meaning(small_config):
    with pytest.raises(ConfigError, match=r"loss\.occupied: input should be greater than or equal to 0, got -1"):
        small_config("run", "loss.occupied=-1")
    with pytest.raises(ConfigError, match=r"no key loss\.occupid: did you mean loss\.occupied"):
        small_config("run", "loss.occupid=1")


def test_a_card_with_other_inputs_than_switches(small_config, tmp_path):
    out = train(small_config("run", "inputs.overlap=true", "phases.stage2.steps=0", "phases.joint.steps=0"))
    card = out / "card.json"
    card.write_text(card.read_text().replace('"overlap": true', '"overlap": 3'))
    with pytest.raises((FormatError, ModelError), match="inputs"):
        load(out)
