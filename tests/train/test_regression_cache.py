"""Fits that trainings share: found by what they were fitted to, and by nothing else."""

import io

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from harmose.errors import ConfigError, FormatError
from harmose.inference.checkpoint import load
from harmose.train import regression_cache
from harmose.train.engine import train

ONE_STEP = ["phases.stage1.steps=1", "phases.stage2.steps=0", "phases.joint.steps=0", "regression=kernel"]


@pytest.fixture
def fits(monkeypatch):
    """The numbers of samples of the fits that were made."""
    made, original = [], regression_cache.fit_to_samples

    def watched(targets, *rest):
        made.append(len(targets.names))
        return original(targets, *rest)

    monkeypatch.setattr(regression_cache, "fit_to_samples", watched)
    return made


def test_a_fit_is_made_once_for_all_seeds_and_networks(small_config, tmp_path, fits):
    kept = f"regression_cache={tmp_path / 'fits'}"
    fresh = train(small_config("fresh", *ONE_STEP))
    runs = [train(small_config("first", kept, *ONE_STEP)), train(small_config("again", kept, *ONE_STEP))]
    train(small_config("other", kept, "seed=1", "network.stage1.hidden=4", *ONE_STEP))
    assert fits == [6, 6]
    expected = load_file(fresh / "model.safetensors")
    for run in runs:
        found = load_file(run / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_other_samples_and_other_targets_have_their_own(small_config, tmp_path, fits):
    kept = f"regression_cache={tmp_path / 'fits'}"
    for k, more in enumerate(([], ["train_samples=5"], ["prior=H0"], ["regression=pairs"], ["train_samples=6"])):
        train(small_config(f"run{k}", kept, *ONE_STEP, *more))
    assert fits == [6, 5, 6, 6]
    assert len(list((tmp_path / "fits").iterdir())) == 4


def test_the_console_says_where_it_came_from(small_config, tmp_path):
    kept, lines = f"regression_cache={tmp_path / 'fits'}", []
    for out in ("first", "second"):
        text = io.StringIO()
        train(small_config(out, kept, *ONE_STEP), Console(file=text, width=200))
        lines.append(text.getvalue().splitlines()[0])
    assert lines[0].startswith("kernel regression fitted to 6 samples, kept in ")
    assert lines[1].startswith(f"kernel regression taken from {tmp_path / 'fits'}")


def test_bad_folders_and_files(small_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="regression_cache: expected a folder"):
        train(small_config("a", f"regression_cache={tmp_path / 'file'}", *ONE_STEP))
    kept = f"regression_cache={tmp_path / 'fits'}"
    train(small_config("b", kept, *ONE_STEP))
    (fit,) = (tmp_path / "fits").iterdir()
    fit.write_bytes(fit.read_bytes()[:500])
    with pytest.raises(FormatError, match=f"{fit.name}: expected the state of a training"):
        train(small_config("c", kept, *ONE_STEP))


def test_the_first_samples_of_the_split(small_config):
    assert load(train(small_config("run", "train_samples=4", *ONE_STEP))).card.n_train == 4
    with pytest.raises(ConfigError, match="train_samples: expected at most the 6 of train, got 7"):
        train(small_config("more", "train_samples=7", *ONE_STEP))
