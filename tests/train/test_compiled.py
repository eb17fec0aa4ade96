"""A compiled loss: the same numbers from one graph, and none of it where it does not work."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch._dynamo.utils import counters

import harmose
from harmose.bench.systems import system
from harmose.bench.training import compute_priors, labelled
from harmose.errors import ConfigError
from harmose.nn.two_stage import TwoStage
from harmose.representation.concatenation import compute_targets
from harmose.train.compiled import reason
from harmose.train.dataset import normalize_targets
from harmose.train.engine import train
from harmose.train.fit import Fit
from harmose.train.schedule import Phase
from harmose.train.step import PhaseLoss, PhaseOptimizer


@pytest.fixture
def traced(monkeypatch):
    """Graphs are made as by any compiler, but run as they are: turned into C++ they would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    counters.clear()


@pytest.fixture(scope="module")
def known():
    each = system("water-5")
    model = harmose.load(each.model)
    samples = labelled(model, each, compute_priors(model, each))
    return model, normalize_targets(
        compute_targets(model.space, samples, model.card.target), Fit(model.normalizer, model.domain, model.regression)
    )


@pytest.fixture
def stepper(known, monkeypatch):
    """`stepper(phase, compiled)`: of a small network, and what it says."""
    model, _ = known

    def make(phase, compiled: bool) -> tuple[PhaseOptimizer, list[str]]:
        settings = model.network.settings
        small = {"scalars": 8, "so2_channels": 4, "pseudoscalars": 4, "hidden": 8}
        encoder = type(settings.stage1)(channels=4, pseudo_channels=2, radial=8, **small)
        refiner = type(settings.stage2)(channels=4, pseudo_channels=2, mlp_layers=1, **small)
        torch.manual_seed(0)
        network, average = (TwoStage(model.space, type(settings)(encoder, refiner)) for _ in range(2))
        for parameter in network.stage2.heads.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        average.load_state_dict(network.state_dict())
        said: list[str] = []
        loss = PhaseLoss(network, torch.device("cpu"), 0.3)
        how = Fabric(accelerator="cpu", devices=1), loss, average, torch.Generator().manual_seed(0), phase, Phase()
        return PhaseOptimizer(*how, compiled, said.append), said

    return make


def losses(stepper: PhaseOptimizer, prepared, batches) -> list[float]:
    return [stepper.step(prepared.pick(np.array(chosen)), k, 0.0) for k, chosen in enumerate(batches)]


BATCHES = [[0, 1, 2], [3, 4], [0, 1, 2, 3, 4], [2, 0, 1], [0], [4, 3]]
"""One water has a single pair of its first group: another kind of batch."""


def test_batches_of_all_sizes_from_one_graph(traced, stepper, known):
    (plain, _), (compiled, said) = stepper("joint", False), stepper("joint", True)
    expected, found = (losses(s, known[1], BATCHES) for s in (plain, compiled))
    assert said == []
    assert counters["stats"]["unique_graphs"] == 1
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert list(compiled.loss.state_dict()) == list(plain.loss.state_dict())


@pytest.mark.parametrize("late", [False, True])
def test_what_does_not_compile_is_left(stepper, known, monkeypatch, late):
    """At once, or only when the gradient is computed."""

    def broken(function, **_):
        def call(*inputs):
            if not late:
                raise RuntimeError("no C++ compiler\nand more")
            loss = function(*inputs)
            loss.register_hook(lambda g: 1 / 0)
            return loss

        return call

    monkeypatch.setattr(torch, "compile", broken)
    (plain, _), (compiled, said) = stepper("stage1", False), stepper("stage1", True)
    assert losses(compiled, known[1], BATCHES) == losses(plain, known[1], BATCHES)
    (line,) = said
    assert "continuing without" in line
    assert ("ZeroDivisionError" if late else "no C++ compiler)") in line


def test_other_numbers_are_not_taken(stepper, known, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda *inputs: 1.01 * function(*inputs))
    (plain, _), (compiled, said) = stepper("stage1", False), stepper("stage1", True)
    assert losses(compiled, known[1], BATCHES) == losses(plain, known[1], BATCHES)
    assert ["expected a loss" in line for line in said] == [True]


def test_a_reason_is_one_line():
    assert reason(ValueError("one\ntwo")) == "ValueError: one"


def test_a_training_leaves_the_same_model(traced, small_config):
    """And goes on, or not, whether it was compiled or not."""
    short = "phases.stage2.steps=0", "phases.joint.steps=0"
    one, other = (
        load_file(train(small_config(f"run{c}", f"compile={c}", *short)) / "model.safetensors") for c in (0, 1)
    )
    assert counters["stats"]["unique_graphs"] == 1
    assert other.keys() == one.keys()
    for name, x in one.items():
        torch.testing.assert_close(other[name], x, rtol=1e-3, atol=1e-4)
    train(small_config("run1", "compile=false", *short))


@pytest.mark.parametrize("setting", ["clock=cpu", "loss.eigenvalues=1", "network.stage2.symmetry=learned"])
def test_what_is_not_compiled_is_refused(small_config, setting):
    with pytest.raises(ConfigError, match="compile"):
        small_config("run", "compile=true", setting)
