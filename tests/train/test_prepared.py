"""Training sets that are prepared in parts against the same sets in memory."""

import errno
import os
import shutil
import signal
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from harmose.core.basis import BasisSet, Shell
from harmose.data.store import Store
from harmose.errors import ConfigError, FormatError, HarmoseError
from harmose.inference.checkpoint import load
from harmose.representation.concatenation import TargetSettings
from harmose.train import mapped_arrays, prepared
from harmose.train.dataset import load_dataset
from harmose.train.engine import train
from harmose.train.fit import Fit, fit_to_samples, load_targets
from harmose.train.prepared import Preparation, fits_into_memory, is_prepared, open_prepared, prepare_in_parts
from harmose.train.prepared_sets import cache_folder
from harmose.train.reversals import training_space
from harmose.train.trainer import Trainer

ONE_STEP = ["phases.stage1.steps=2", "phases.stage2.steps=0", "phases.joint.steps=0", "regression=kernel"]
WITH_OVERLAP = TargetSettings(prior=True, operators=("overlap",))
DENSITY = TargetSettings(prior=True, operators=("density", "overlap"))


def quiet(*_):
    pass


@pytest.fixture
def waters(tmp_path, water_basis, water_sample):
    """Thirty waters: enough for a fit that does not depend on the order of its sums."""
    with Store.create(tmp_path / "waters", water_basis) as store:
        store.append_all(water_sample(seed) for seed in range(30))
    return Store.open(tmp_path / "waters")


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a few samples."""
    monkeypatch.setattr(prepared, "PAIRS", 7)


def both(store, folder, target, kind="kernel", **options):
    """The data set of all samples of a store in memory and in parts, which the sample set holds all of."""
    names, space = store.names(), training_space(store, store.names(), target)
    targets = load_targets(store, names, target, space=space)
    fit = fit_to_samples(targets, kind)
    what = Preparation(store, names, space, target, kind, memory=10**9, **options)
    prepare_in_parts(what, folder, Fit, quiet)
    return load_dataset(store, names, fit, target, targets), open_prepared(folder, store, space, target)[1]


@pytest.mark.parametrize("kind", ["kernel", "pairs", "none"])
@pytest.mark.parametrize("target", [TargetSettings(), WITH_OVERLAP, DENSITY])
def test_batches_are_those_from_memory(mixed_store, waters, tmp_path, small_parts, target, kind):
    store = mixed_store if kind == "none" and target is not DENSITY else waters
    ready, stored = both(store, tmp_path / "prepared", target, kind)
    assert sorted(ready.names) == sorted(stored.names)
    assert len(list((tmp_path / "prepared").glob("*"))) == 4  # no parts are left
    numbers = [5, 1, 3, 4]
    a, b = ready.batch(numbers), stored.batch([stored.names.index(ready.names[k]) for k in numbers])
    assert (a.names, a.n_elements) == (b.names, b.n_elements)
    assert ready.pair_counts[numbers].tolist() == stored.pair_counts[[stored.names.index(n) for n in a.names]].tolist()
    for name in ("species", "sample", "first", "second", "pair_type", "vectors", "distance", "reach", "rotation"):
        torch.testing.assert_close(getattr(a.graph, name), getattr(b.graph, name))
    assert a.graph.operators.keys() == b.graph.operators.keys() == set(target.operators)
    pairs = [(a.graph.operators[name], b.graph.operators[name]) for name in target.operators]
    for x, y in [*pairs, (a.scales, b.scales)]:
        for found, expected in zip((*y.pairs.values(), *y.onsite.values()), (*x.pairs.values(), *x.onsite.values())):
            torch.testing.assert_close(
                found, expected, rtol=1e-2 if x is a.scales else 1e-5, atol=1e-3 if x is a.scales else 1e-6
            )
    for x, y, s in zip(
        *((*c.pairs.values(), *c.onsite.values()) for c in (a.targets, b.targets, b.scales)), strict=True
    ):
        if len(x) and kind != "pairs":  # in memory, that kind leaves no samples out
            assert (x - y).mul(s).abs().max() < (1e-3 if kind == "kernel" else 1e-4)


def test_the_fit_is_that_in_memory(waters, tmp_path, small_parts):
    ready, stored = both(waters, tmp_path / "prepared", TargetSettings())
    targets = load_targets(waters, waters.names()[:3], TargetSettings(), space=ready.fit.space)
    found, expected = stored.fit.values(targets).values, ready.fit.values(targets).values
    for x, y in zip(
        (*found.pairs.values(), *found.onsite.values()), (*expected.pairs.values(), *expected.onsite.values())
    ):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)


def test_left_out_predictions_of_some_samples(waters, tmp_path, small_parts):
    ready, stored = both(waters, tmp_path / "prepared", TargetSettings())
    found = []
    for data in (ready, stored):
        names = ["water-1", "water-5", "water-18"]
        chosen = np.array([data.names.index(n) for n in names])
        part = load_targets(waters, names, TargetSettings(), space=data.fit.space)
        assert data.left_out is not None
        found.append(data.left_out(chosen, part))
        assert len(found[-1].weights) == len(part.concatenated.atom_sample) + len(part.concatenated.pair_sample)
    for x, y in zip(*((*c.values.pairs.values(), *c.values.onsite.values()) for c in found)):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[0].weights, found[1].weights, atol=0.05)
    np.testing.assert_allclose(found[0].std, found[1].std, rtol=0.1)


def test_several_processes_make_the_same_parts(mixed_store, tmp_path, small_parts):
    one = both(mixed_store, tmp_path / "one", TargetSettings())[1].batch([0, 1, 2])
    two = both(mixed_store, tmp_path / "two", TargetSettings(), n_processes=2)[1].batch([0, 1, 2])
    for x, y in zip((*one.targets.pairs.values(), *one.targets.onsite.values()),
                    (*two.targets.pairs.values(), *two.targets.onsite.values())):  # fmt: skip
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


def test_an_interrupted_preparation_goes_on(mixed_store, tmp_path, small_parts, monkeypatch):
    folder, target = tmp_path / "prepared", TargetSettings()
    what = Preparation(mixed_store, mixed_store.names(), training_space(mixed_store, [], target), target)
    made, original = [], prepared.compute_part

    def watched(store, names, *rest):
        made.append(tuple(names))
        if len(made) == 3:
            raise KeyboardInterrupt
        return original(store, names, *rest)

    monkeypatch.setattr(prepared, "compute_part", watched)
    with pytest.raises(KeyboardInterrupt):
        prepare_in_parts(what, folder, Fit, quiet)
    assert not is_prepared(folder)
    damaged = sorted((folder / "parts").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    prepare_in_parts(what, folder, Fit, quiet)
    assert is_prepared(folder)
    # The third part, which was interrupted, and the first one, which was damaged, are made again.
    assert made[:3].count(made[2]) == 1
    assert made[3] == made[0]
    assert made[4] == made[2]
    made.clear()
    prepare_in_parts(what, folder, Fit, quiet)
    assert not made


def die(*_):
    os._exit(1)


def test_a_process_that_dies_is_one_line(mixed_store, tmp_path, small_parts, monkeypatch):
    target = TargetSettings()
    space = training_space(mixed_store, [], target)
    what = Preparation(mixed_store, mixed_store.names(), space, target, n_processes=2)
    monkeypatch.setattr(prepared, "_make_part", die)
    with pytest.raises(HarmoseError, match="a process that prepares samples has died"):
        prepare_in_parts(what, tmp_path / "prepared", Fit, quiet)
    assert not is_prepared(tmp_path / "prepared")


def test_a_full_disk_is_one_line_and_leaves_nothing_that_is_trusted(mixed_store, tmp_path, monkeypatch):
    folder, target = tmp_path / "prepared", TargetSettings()
    what = Preparation(mixed_store, mixed_store.names(), training_space(mixed_store, [], target), target)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped_arrays.os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match="no space left for prepared samples; regression_cache=FOLDER"):
        prepare_in_parts(what, folder, Fit, quiet)
    assert not is_prepared(folder)
    monkeypatch.undo()
    monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(ConfigError, match=r"no space left for prepared samples: 0\.0 GB needed, 0\.0 GB free"):
        prepare_in_parts(what, folder, Fit, quiet)


def test_damaged_files_are_named(mixed_store, tmp_path, small_parts):
    both(mixed_store, tmp_path / "prepared", TargetSettings())
    folder, space = tmp_path / "prepared", training_space(mixed_store, [], TargetSettings())
    file = folder / "arrays" / "rotation.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(FormatError, match=r"rotation.npy: expected prepared samples, got a damaged file"):
        open_prepared(folder, mixed_store, space, TargetSettings())
    (folder / "index.safetensors").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"index.safetensors: expected the index of prepared samples"):
        open_prepared(folder, mixed_store, space, TargetSettings())


def test_memory_decides(mixed_store):
    names = mixed_store.names()
    assert fits_into_memory(mixed_store, names, 10**9)
    assert not fits_into_memory(mixed_store, names, 10**5)


def test_a_training_whose_set_does_not_fit_into_memory(small_config, water_store, tmp_path, small_parts):
    """The same steps, validation and calibration; the second run takes what the first one prepared, and resumes."""
    small = "memory=0.4MB"
    path = train(small_config("parts", small, *ONE_STEP))
    model, cache = load(path), cache_folder(water_store)
    assert model.regression is not None
    assert model.calibration is not None
    (folder,) = cache.iterdir()
    before = (folder / "index.safetensors").stat().st_mtime_ns
    again = load(train(small_config("again", small, *ONE_STEP)))
    assert (folder / "index.safetensors").stat().st_mtime_ns == before
    assert again.card.metrics == model.card.metrics
    assert model.card.n_train == 6
    whole = load(train(small_config("whole", *ONE_STEP)))
    assert model.card.training_set == whole.card.training_set
    ratio = model.card.metrics["mae_val_full"] / whole.card.metrics["mae_val_full"]
    assert 0.2 < ratio < 5


@pytest.mark.parametrize("fate", ["correct", "refit", "keep"])
def test_a_training_in_parts_that_starts_from_a_model(small_config, tmp_path, small_parts, fate):
    first = train(small_config("first", *ONE_STEP))
    options = [f"init={first}", f"init_regression={fate}", *ONE_STEP]
    found, expected = (load(train(small_config(f"{k}", *options, *x))) for k, x in enumerate((["memory=0.2MB"], [])))
    assert found.regression is not None
    assert expected.regression is not None
    assert len(found.regression.corrections) == len(expected.regression.corrections) == (fate == "correct")
    assert found.card.init == expected.card.init
    assert len(found.domain.further) == len(expected.domain.further)
    ratio = found.card.metrics["mae_val_full"] / expected.card.metrics["mae_val_full"]
    assert 0.2 < ratio < 5


def test_a_store_that_changed_is_prepared_anew(small_config, water_store, small_parts, water_sample):
    small = "memory=0.4MB"
    train(small_config("parts", small, *ONE_STEP))
    with Store.open(water_store, writable=True) as store:
        splits = store.splits
        store.append(replace(water_sample(50), name="another"))
        store.set_splits({**splits, "train": [*splits["train"], "another"]})
    assert load(train(small_config("again", small, *ONE_STEP))).card.n_train == 7
    assert len(list(cache_folder(water_store).iterdir())) == 2


@pytest.mark.parametrize("memories", [("100GB", "0.4MB"), ("0.4MB", "100GB"), ("0.4MB", "0.5MB")])
def test_a_training_does_not_go_on_with_another_fit(small_config, monkeypatch, small_parts, memories):
    """Scales and targets of parts are not those of the whole: the state belongs to the fit that it began with."""
    stopped_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(small_config("run", f"memory={memories[0]}", *ONE_STEP))
    monkeypatch.undo()
    with pytest.raises(
        ConfigError, match="holds a training on other labels, or one whose regression was fitted otherwise"
    ):
        train(small_config("run", f"memory={memories[1]}", *ONE_STEP))


@pytest.mark.parametrize("memory", ["100GB", "0.4MB"])
def test_a_training_does_not_go_on_with_other_labels(small_config, water_store, monkeypatch, small_parts, memory):
    stopped_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(small_config("run", f"memory={memory}", *ONE_STEP))
    monkeypatch.undo()
    with Store.open(water_store) as store:
        samples, splits, metadata, basis = list(store), store.splits, store.metadata, store.basis
    shutil.rmtree(water_store)
    with Store.create(water_store, basis, metadata=metadata) as store:
        store.append_all(
            (
                replace(x, hamiltonian=x.hamiltonian.with_values(1.3 * x.hamiltonian.values), orbital_energies=None)
                for x in samples
            ),
            check=False,
        )
        store.set_splits(splits)
    with pytest.raises(ConfigError, match="holds a training on other labels"):
        train(small_config("run", f"memory={memory}", *ONE_STEP))


def stopped_after(monkeypatch, step):
    """Make trainings stop after a step, as by a signal."""
    original = Trainer._report

    def report(self, *rest):
        if self.state.step == step:
            signal.raise_signal(signal.SIGINT)
        return original(self, *rest)

    monkeypatch.setattr(Trainer, "_report", report)


def test_parts_hold_whole_groups(monkeypatch):
    monkeypatch.setattr(prepared, "PAIRS", 10)
    group, n_pairs = np.repeat([0, 1, 2, 3], [3, 4, 6, 1]), np.full(14, 3)
    starts = prepared._starts(group, n_pairs)
    assert starts[0] == 0
    assert starts[-1] == 14
    for a, b in pairwise(starts):
        assert n_pairs[a:b].sum() < 2 * 10 + 3
    # A group is cut only if it alone has more pairs than a part.
    for k in np.unique(group):
        rows = np.flatnonzero(group == k)
        cut = any(rows[0] < start <= rows[-1] for start in starts)
        assert cut == (n_pairs[rows[:-1]].sum() >= 10)


def test_an_element_without_training_samples_is_named(small_config, water_store):
    with Store.open(water_store, writable=True) as store:
        store.extend_basis(BasisSet(store.basis.name, {2: (Shell(1, 0, 1),)}, {2: 3.0}))
    for memory in ("100GB", "0.4MB"):
        with pytest.raises(
            FormatError, match="expected training samples with every element of the store, got none with He"
        ):
            train(small_config(f"run{memory}", f"memory={memory}", *ONE_STEP))


def test_parts_of_a_run_that_was_killed_at_its_very_end_are_removed(mixed_store, tmp_path, small_parts):
    both(mixed_store, tmp_path / "prepared", TargetSettings())
    (tmp_path / "prepared" / "parts").mkdir()
    both(mixed_store, tmp_path / "prepared", TargetSettings())
    assert not (tmp_path / "prepared" / "parts").exists()


def test_a_damaged_cache_says_what_to_do(small_config, water_store, small_parts):
    train(small_config("run", "memory=0.4MB", *ONE_STEP))
    (folder,) = cache_folder(water_store).iterdir()
    (folder / "fit.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match=f"remove {folder}, and the same command prepares it again"):
        train(small_config("again", "memory=0.4MB", *ONE_STEP))
