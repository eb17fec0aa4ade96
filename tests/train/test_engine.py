"""Trainings of a few steps: resumed, frozen, overfitted, stopped by time, by NaN, by patience."""

import csv
import io
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, ModelError
from harmose.inference.checkpoint import load
from harmose.representation.block_irreps import map_coefficients
from harmose.train import engine, regression_cache, step
from harmose.train.dataset import ValidationSet
from harmose.train.engine import Trainer, train
from harmose.units import MICRO_HARTREE


def rows(path) -> list[dict[str, str]]:
    with open(path / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(path)]


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(step)`: the next training gets a SIGINT while this step is being done."""

    def set_up(step: int) -> None:
        original = Trainer._report

        def with_signal(self, *args):
            if self.state.step == step:
                signal.raise_signal(signal.SIGINT)
            return original(self, *args)

        monkeypatch.setattr(Trainer, "_report", with_signal)

    return set_up


@pytest.mark.parametrize("stops", [(3,), (6, 8), (11, 13)])
def test_a_resumed_training_gives_the_same_numbers(small_config, stop_after, monkeypatch, stops):
    whole = train(small_config("whole"))
    for stop in stops:
        stop_after(stop)
        with pytest.raises(KeyboardInterrupt):
            train(small_config("parts"))
        monkeypatch.undo()
        state = load_file(small_config("parts").out / "state.safetensors")
        assert any(key.startswith("optimizer.") for key in state)
    parts = train(small_config("parts"))
    a, b = (load_file(out / "model.safetensors") for out in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert numbers(whole) == numbers(parts)
    assert [row["phase"] for row in rows(whole)][-1] == "joint"
    assert sorted(p.name for p in parts.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_other_seeds_give_other_numbers(small_config):
    a, b = (train(small_config(f"seed{k}", f"seed={k}")) for k in (0, 1))
    weights = [load_file(out / "model.safetensors")["network.stage1.encoder.embed.weight"] for out in (a, b)]
    assert not torch.equal(*weights)


def test_stage_2_leaves_stage_1_as_it_is(small_config, monkeypatch):
    # two samples and a few steps are no gain: here each validation is told to be one
    smaller = iter(range(10**6, 0, -1))
    monkeypatch.setattr(ValidationSet, "errors", lambda self, predict: next(smaller) * np.array([1.0, 1.01]))
    first = load(train(small_config("one", "phases.stage2.steps=0", "phases.joint.steps=0"))).network
    both = load(train(small_config("two", "phases.joint.steps=0"))).network
    third = load(train(small_config("three"))).network
    assert all(torch.equal(a, b) for a, b in zip(first.stage1.parameters(), both.stage1.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.stage2.parameters(), both.stage2.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.stage1.parameters(), third.stage1.parameters()))


def test_four_waters_are_learned_by_heart(small_config, water_store):
    with Store.open(water_store, writable=True) as store:
        names = store.names()
        store.set_splits({"train": names[:4], "val": names[4:]})
    steps = ["phases.stage1.steps=400", "phases.stage1.batch_size=4", "phases.stage1.warmup=50"]
    widths = [f"network.stage1.{k}" for k in ("channels=8", "scalars=32", "so2_channels=16", "hidden=32")]
    out = train(small_config("run", *steps, *widths, "phases.stage2.steps=0", "phases.joint.steps=0"))
    losses = [float(row["loss"]) for row in rows(out)]
    model = load(out)
    as_trained, errors = replace(model, last_layer=None), {}  # a training knows no weights of the network
    with Store.open(water_store) as store:
        for split, members in store.splits.items():
            samples = [store[name] for name in members]
            known = as_trained if split == "train" else model
            h = known.predict_many([s.structure for s in samples])
            errors[split] = np.mean([np.abs(a.dense() - s.hamiltonian.dense()).mean() for a, s in zip(h, samples)])
    assert errors["train"] / MICRO_HARTREE < losses[0] / 10
    assert errors["val"] > errors["train"]
    assert errors["val"] == pytest.approx(model.card.metrics["mae_val_full"], rel=1e-4)
    assert errors["train"] == pytest.approx(float(rows(out)[-1]["mae_train"]), rel=1e-4)


def test_a_training_ends_in_time(small_config, ticks):
    shares = ["phases.stage1.steps=null", "phases.stage1.share=0.5", "phases.stage2.steps=null",
              "phases.stage2.share=0.5", "phases.joint.steps=0"]  # fmt: skip
    clock = ticks(0.02)
    out = train(small_config("run", *shares, "time_limit=6s"), begin=0.0, clock=clock)
    assert 2 < clock.time < 6
    log = rows(out)
    spent = {phase: [float(r["seconds"]) for r in log if r["phase"] == phase] for phase in ("stage1", "stage2")}
    assert spent["stage1"]
    assert spent["stage2"]
    assert float(log[-1]["learning_rate"]) < 1e-3
    assert load(out).card.n_train == 6


def test_slow_validations_leave_the_time_to_training(small_config, monkeypatch, ticks):
    errors, clock = ValidationSet.errors, ticks(0.01)

    def slow(self, predict):
        clock.time += 0.1
        return errors(self, predict)

    monkeypatch.setattr(ValidationSet, "errors", slow)
    only = ["phases.stage1.steps=null", "phases.stage1.share=1", "phases.stage2.steps=0", "phases.joint.steps=0"]
    log = rows(train(small_config("run", *only, "time_limit=20s", "validations=1000"), clock=clock))
    spent = float(log[-1]["seconds"]) - float(log[0]["seconds"])
    n_validations = sum(bool(row["mae_val"]) for row in log)
    assert n_validations
    assert 0.2 * n_validations <= 0.1 * spent + 0.4


def test_the_time_limit_begins_after_a_cached_fit(small_config, tmp_path, monkeypatch, ticks):
    only = ["phases.stage1.steps=null", "phases.stage1.share=1", "phases.stage2.steps=0", "phases.joint.steps=0"]
    original = regression_cache.fit_to_samples
    steps = {}
    for name, more in (("none", []), ("some", [f"regression_cache={tmp_path / 'fits'}"])):
        clock = ticks(0.01)

        def slow(*arguments, clock=clock):
            clock.time += 3
            return original(*arguments)

        monkeypatch.setattr(regression_cache, "fit_to_samples", slow)
        steps[name] = len(rows(train(small_config(name, *only, "time_limit=2s", *more), clock=clock)))
    assert steps["none"] == 0
    assert steps["some"] > 0


def test_the_configuration_chooses_the_clock(small_config, monkeypatch, ticks):
    cpu = ticks(0.01)
    monkeypatch.setitem(engine.CLOCKS, "cpu", cpu)
    monkeypatch.setitem(engine.CLOCKS, "wall", lambda: pytest.fail("wall time was read"))
    only = ["phases.stage1.steps=null", "phases.stage1.share=1", "phases.stage2.steps=0", "phases.joint.steps=0"]
    assert rows(train(small_config("run", *only, "time_limit=2s", "clock=cpu")))
    assert 1 < cpu.time < 2.5


OFF = ("phases.stage1.steps=0", "phases.stage2.steps=0", "phases.joint.steps=0")


@pytest.mark.parametrize("kind", ["kernel", "pairs"])
def test_the_regression_alone(small_config, water_store, kind):
    model = load(train(small_config("run", f"regression={kind}", *OFF)))
    assert model.network is None
    assert model.card.regression == model.regression.kind == kind
    with Store.open(water_store) as store:
        samples = [store[name] for name in store.splits["val"]]
    h = model.predict_many([s.structure for s in samples])
    error = np.mean([np.abs(a.dense() - s.hamiltonian.dense()).mean() for a, s in zip(h, samples)])
    assert error == pytest.approx(model.card.metrics["mae_val_regression"], rel=1e-6)
    assert model.predict(samples[0].structure, stage="full").values == pytest.approx(h[0].values, abs=1e-12)
    assert model.uncertainty(samples[0].structure, overlap=samples[0].overlap).blocks.shape == (6,)


def test_the_network_alone(small_config, water_store):
    """Without a regression the network learns H itself, from the mean on-site scalars on."""
    model = load(train(small_config("run", "regression=none")))
    assert model.regression is None
    assert model.stages == ("stage1", "full")
    with Store.open(water_store) as store:
        sample = store["water-6"]
    h = model.predict(sample.structure)
    assert np.abs((h - sample.hamiltonian).values).mean() < np.abs(sample.hamiltonian.values).mean()
    with pytest.raises(ModelError, match="expected one of stage1, full, got 'regression'"):
        model.predict(sample.structure, stage="regression")
    assert model.uncertainty(sample.structure, overlap=sample.overlap).blocks.shape == (6,)


def test_nothing_to_train(small_config):
    with pytest.raises(ConfigError, match="all phases are switched off and there is no regression"):
        small_config("run", "regression=none", *OFF)


def test_patience_ends_a_phase(small_config, monkeypatch):
    errors = iter([3.0, 2.0, 4.0, 5.0])
    monkeypatch.setattr("harmose.train.dataset.ValidationSet.errors", lambda *_: np.array([next(errors, 9.0)]))
    only = ["phases.stage1.steps=20", "phases.stage2.steps=0", "phases.joint.steps=0", "validations=20"]
    out = train(small_config("run", *only, "phases.stage1.patience=2"))
    sample_targets = [row for row in rows(out) if row["mae_val"]]
    # One is spent before the phase, then two (train, val) when it begins and at each validation.
    assert len(sample_targets) == 2
    assert int(rows(out)[-1]["step"]) < 20


def test_a_phase_that_does_not_help_is_undone(small_config, monkeypatch):
    """Without a validation that betters the one at its beginning, the weights from before the phase are shipped."""
    errors = iter([1.0, 1.0, 1.0])
    monkeypatch.setattr("harmose.train.dataset.ValidationSet.errors", lambda *_: np.array([next(errors, 9.0)]))
    assert _is_silent(train(small_config("run", *ONE_PHASE)))


ONE_PHASE = ("phases.stage1.steps=5", "phases.stage2.steps=0", "phases.joint.steps=0")


def _is_silent(out) -> bool:
    heads = {k: v for k, v in load_file(out / "model.safetensors").items() if k.startswith("network.stage1.heads")}
    assert heads
    return not any(v.any() for v in heads.values())  # as they began


@pytest.mark.parametrize(("after", "kept"), [([1.0, 1.0, 0.6], False), ([0.8, 0.9, 0.7], True)])
def test_few_samples_must_agree_on_a_phase(small_config, monkeypatch, after, kept):
    """A lower mean that one of three samples makes is chance; one that all make is not."""
    calls = []

    def errors(self, predict):
        predict(self.parts[0].batch)
        calls.append(self)
        return np.array([0.95, 1.0, 1.05]) if len(calls) <= 3 else np.array(after)

    monkeypatch.setattr("harmose.train.dataset.ValidationSet.errors", errors)
    assert _is_silent(train(small_config("run", *ONE_PHASE))) is not kept


def test_a_loss_that_is_not_finite(small_config, monkeypatch):
    """One bad step is left out; several in a row are an error that names step and samples."""
    original, calls = step.physical_errors, []

    def sometimes(predicted, batch):
        calls.append(batch.names)
        factor = float("nan") if len(calls) in bad else 1.0
        return map_coefficients(lambda e: e * factor, original(predicted, batch))

    monkeypatch.setattr(step, "physical_errors", sometimes)
    bad = {3}
    assert np.isfinite([float(row["loss"]) for row in rows(train(small_config("once")))]).all()
    calls.clear()
    bad = set(range(3, 100))
    with pytest.raises(
        ModelError, match=r"not finite in step 7 and the 4 before it \(stage\d; samples water-\d, "
    ) as error:
        train(small_config("always", "phases.stage1.steps=20"))
    assert all(name in str(error.value) for name in calls[6])


def test_gradients_are_clipped(small_config, monkeypatch):
    norms = []
    original = torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(small_config("run", "phases.stage1.clip=0.01", "phases.stage2.steps=0", "phases.joint.steps=0"))
    assert max(norms) <= 0.01 * 1.0001
    assert min(norms) > 0.0099


def test_learning_the_difference_to_a_prior(small_config, water_store):
    model = load(train(small_config("run", "prior=H0")))
    assert model.card.needs_prior
    with Store.open(water_store) as store:
        sample = store["water-6"]
    h = model.predict(sample.structure, prior=sample.prior)
    assert np.abs((h - sample.hamiltonian).values).mean() < np.abs(sample.hamiltonian.values).mean() / 10


def test_the_terminal_shows_phase_and_error(small_config):
    text = io.StringIO()
    out = train(small_config(), Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("regression of pairs fitted to 6 samples")
    assert lines[1].startswith("6 training samples, 2 for validation, ")
    assert sum(line.startswith(("stage1", "stage2", "joint")) for line in lines) == 6
    assert lines[-2].startswith("validation, 2 samples: H MAE")
    again = io.StringIO()
    assert train(small_config(), Console(file=again, width=200)) == out
    assert "already trained" in again.getvalue()


def test_the_live_line(small_config):
    text = io.StringIO()
    train(small_config(), Console(file=text, width=200, force_terminal=True))
    assert "samples/s" in text.getvalue()
    assert "min left" in text.getvalue()


def test_tensorboard_gets_the_same_numbers(small_config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(small_config("run", "tensorboard=true"))
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("stage2/mae_val")]
    expected = [(int(r["step"]), float(r["mae_val"])) for r in rows(out) if r["phase"] == "stage2" and r["mae_val"]]
    assert found == pytest.approx(np.array(expected), rel=1e-5)


def test_folders_that_hold_something_else(small_config, tmp_path, stop_after, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="holds something else"):
        train(small_config("full"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a folder"):
        train(small_config("file"))
    train(small_config("run"))
    settings = tmp_path / "run" / "config.json"
    before = settings.read_text()
    settings.write_text(before.replace('"energy_zero":"labels"', '"gauge":"none"'))
    with pytest.raises(ConfigError, match="holds a training of another version of harmose"):
        train(small_config("run"))
    settings.write_text("{")
    with pytest.raises(FormatError, match="expected the settings of a training, got a damaged file"):
        train(small_config("run"))
    settings.write_text(before)
    with pytest.raises(ConfigError, match=r"with seed = 0, this one has 3: .*overwrite=true"):
        train(small_config("run", "seed=3"))
    assert load(train(small_config("run", "seed=3", "overwrite=true"))).card.seed == 3


def test_a_damaged_state_is_named(small_config, stop_after, monkeypatch):
    stop_after(4)
    with pytest.raises(KeyboardInterrupt):
        train(small_config())
    monkeypatch.undo()
    state = small_config().out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(FormatError, match=r"state\.safetensors: expected the state of a training"):
        train(small_config())


def test_a_store_without_the_split(small_config):
    with pytest.raises(FormatError, match=r"expected samples in the split training; the store's splits: train, val"):
        train(small_config("new", "train_split=training"))
    assert not small_config("new").out.exists()


def test_no_store_no_folder(small_config, tmp_path):
    with pytest.raises(FormatError, match="nowhere"):
        train(small_config("new", f"data={tmp_path / 'nowhere'}"))
    assert not small_config("new").out.exists()
