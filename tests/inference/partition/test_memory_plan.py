"""Memory plans: what is moved into files first costs the least time, and a memory that is too small is an error."""

from dataclasses import replace

import pytest
from ase.build import graphene

import harmose
from harmose.core.graph import build_graph
from harmose.errors import ConfigError
from harmose.inference.partition.memory_plan import n_values, plan
from harmose.inference.partition.part_model import PartModel


@pytest.fixture(scope="module")
def model() -> PartModel:
    loaded = harmose.load("graphene-pbe-dzvp")
    sheet = graphene(a=2.46, size=(3, 3, 1), vacuum=6.0)
    sheet.pbc = (True, True, False)
    return PartModel(loaded, build_graph(sheet, loaded.space.basis), "full")


def test_plenty_of_memory_keeps_everything(model):
    made = plan(model, 1e12)
    assert made.keeps_frames
    assert not (made.maps_features)
    assert not (made.maps_blocks)
    assert made.n_parts == -(-made.n_pairs // made.pairs_per_part)
    assert "18 atoms" in str(made)


def test_less_memory_gives_up_frames_then_features_then_blocks(model):
    made = plan(model, 1e12, pairs_per_part=100)
    need = made.memory
    lean = plan(model, need - 1, pairs_per_part=100)
    assert not lean.keeps_frames
    assert not lean.maps_features
    leaner = plan(model, lean.memory - 1, pairs_per_part=100)
    assert leaner.maps_features
    assert not leaner.maps_blocks
    least = plan(model, leaner.memory - 1, pairs_per_part=100)
    assert least.maps_blocks
    assert "in files" in str(least)
    with pytest.raises(ConfigError, match="memory: 18 atoms need at least"):
        plan(model, least.memory - 1, pairs_per_part=100)


def test_memory_is_the_sum_of_what_is_kept(model):
    made = plan(model, 1e12)
    without = replace(made, keeps_frames=False, maps_features=True, maps_blocks=True)
    assert made.memory - without.memory == pytest.approx(made.frames + made.edges + made.blocks)


def test_values_are_those_of_the_matrix(model):
    basis = model.space.basis
    assert n_values(basis, model.graph) == 13 * 13 * (18 + model.graph.n_pairs)
