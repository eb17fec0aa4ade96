"""A structure in parts: the numbers of the whole, the memory that was stated, and what it refuses."""

import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import graphene, molecule

import harmose
from harmose.errors import ConfigError, ModelError, OutsideDomain
from harmose.inference.partition.predict import MOST_PAIRS_AS_A_WHOLE, PartitionedPrediction

TOLERANCE = 2e-6
"""eV: sums of float32 numbers in another order."""


@pytest.fixture(scope="module")
def model():
    """The graphene model on the energy scale of its labels, so that no Fermi level is computed; its silent stage 2 speaks."""
    loaded = harmose.load("graphene-pbe-dzvp")
    generator = torch.Generator().manual_seed(0)
    for parameter in loaded.network.stage2.heads.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    return replace(loaded, card=replace(loaded.card, energy_zero="labels"))


@pytest.fixture(scope="module")
def sheet() -> Atoms:
    """18 atoms, thermally displaced."""
    atoms = graphene(a=2.46, size=(3, 3, 1), vacuum=6.0)
    atoms.positions += np.random.default_rng(0).normal(scale=0.03, size=atoms.positions.shape)
    atoms.pbc = (True, True, False)
    return atoms


@pytest.fixture(scope="module")
def whole(model, sheet):
    return {stage: model.predict(sheet, stage=stage) for stage in ("regression", "stage1", "full")}


@pytest.mark.parametrize("stage", ["regression", "stage1", "full"])
@pytest.mark.parametrize("size", [1000, 97])
def test_same_numbers_as_the_whole(model, sheet, whole, stage, size):
    found = model.predict(sheet, partition=size, stage=stage)
    assert np.array_equal(found.pairs, whole[stage].pairs)
    assert np.abs(found.values - whole[stage].values).max() < TOLERANCE
    assert np.abs(whole["full"].values - whole["stage1"].values).max() > 100 * TOLERANCE


def test_same_numbers_from_files(model, sheet, whole, tmp_path):
    plan = PartitionedPrediction(model, sheet, pairs_per_part=97).plan
    small = replace(plan, keeps_frames=False, maps_features=True, maps_blocks=True)
    prediction = PartitionedPrediction(model, sheet, small.memory + plan.blocks / 2, pairs_per_part=97)
    assert prediction.plan.maps_features
    assert prediction.plan.maps_blocks
    found, *_ = prediction.run(folder=tmp_path)
    assert isinstance(found.values, np.memmap)
    assert not list(tmp_path.iterdir()), "files that stay behind"
    assert np.abs(found.values - whole["full"].values).max() < TOLERANCE


def test_atoms_of_several_elements():
    """Groups of pairs and signatures of atoms that a part may lack."""
    model = harmose.load("water-pbe-def2svp")
    water = molecule("H2O")
    found = model.predict(water, partition=1)
    assert np.abs(found.values - model.predict(water).values).max() < TOLERANCE


def test_unlike_the_training_set_is_said(model):
    bilayer = graphene(a=2.46, size=(2, 2, 1), vacuum=6.0)
    upper = bilayer.copy()
    upper.positions[:, 2] += 3.35
    with pytest.warns(OutsideDomain, match="of 16 atoms"):
        model.predict(bilayer + upper, partition=500, stage="stage1")


def test_the_same_energy_zero_at_every_size(sheet):
    """In parts as a whole: relative to the prediction's own Fermi level, unless the labels' energy zero is asked for."""
    model, log = harmose.load("graphene-pbe-dzvp"), []
    expected = model.predict(sheet)
    assert np.abs(model.predict(sheet, partition=300, log=log.append).values - expected.values).max() < TOLERANCE
    assert "18 atoms" in log[0]
    labels = model.predict(sheet, partition=300, energy_zero="labels")
    assert np.abs(labels.values - model.predict(sheet, energy_zero="labels").values).max() < TOLERANCE
    assert np.abs(labels.values - expected.values).max() > 0.1


def test_small_structures_are_predicted_as_a_whole(model, sheet, whole, monkeypatch):
    monkeypatch.setattr(PartitionedPrediction, "run", None)
    assert len(whole["full"].pairs) < MOST_PAIRS_AS_A_WHOLE
    for h in (model.predict(sheet), model.predict(sheet, partition="off")):
        np.testing.assert_allclose(h.values, whole["full"].values, rtol=0, atol=1e-9)


def test_an_atom_alone_has_no_pairs(model):
    with pytest.warns(OutsideDomain):
        assert len(model.predict(Atoms("C"), partition=10).values[0]) == 169


def test_memory_that_cannot_do(model, sheet):
    with pytest.raises(ConfigError, match=r"memory: 18 atoms need at least .* GB, got 0\.01 GB"):
        model.predict(sheet, partition=100, memory=1e7)


@pytest.mark.parametrize("partition", [0, -3, "some"])
def test_partitions_without_meaning(model, sheet, partition):
    with pytest.raises(ConfigError, match="expected auto, off or a number of pairs"):
        model.predict(sheet, partition=partition)


def test_a_model_that_reads_h0_is_refused():
    model = harmose.load("organics-b3lyp-def2svp")
    with pytest.raises(ModelError, match="a model of the structure alone"):
        model.predict(molecule("H2O"), partition=2)


def test_stated_memory_is_kept():
    """In a process of its own, whose largest size the system tells."""
    script = textwrap.dedent("""
        from dataclasses import replace
        import torch, harmose
        from ase.build import graphene
        from harmose.inference.partition.predict import PartitionedPrediction
        torch.set_num_threads(1)
        model = harmose.load("graphene-pbe-dzvp")
        model = replace(model, card=replace(model.card, energy_zero="labels"))
        atoms = graphene(a=2.46, size=(6, 6, 1), vacuum=6.0)
        atoms.pbc = (True, True, False)
        prediction = PartitionedPrediction(model, atoms, stage="stage1")
        stated = prediction.plan.memory
        prediction.run()
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(stated, 1024 * int(peak.split()[1]))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    stated, peak = map(float, done.stdout.split())
    assert 0.5 * stated < peak < 1.02 * stated


def test_workers_of_a_scheduler_give_the_same(model, sheet, whole):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        found = model.predict(sheet, partition=200, scheduler=str(cluster.scheduler_address))  # type: ignore[attr-defined]
    assert np.abs(found.values - whole["full"].values).max() < TOLERANCE


def test_an_expected_error_in_parts_is_that_of_the_whole(model, sheet):
    """With a limit just below it both warn."""
    error = model.expected_errors([sheet])[0]
    low = replace(model, calibration=replace(model.calibration, error_limit=error * 0.999))
    high = replace(model, calibration=replace(model.calibration, error_limit=error * 1.001))
    for partition in ("off", 97):
        with pytest.warns(OutsideDomain, match="expected error"):
            low.predict(sheet, partition=partition)
        with warnings.catch_warnings():
            warnings.simplefilter("error", OutsideDomain)
            high.predict(sheet, partition=partition)


def test_no_scheduler(model, sheet, monkeypatch):
    monkeypatch.setattr("harmose.inference.partition.runners.PATIENCE", "1s")
    with pytest.raises(ConfigError, match="cannot work with the Dask scheduler tcp"):
        model.predict(sheet, partition=200, scheduler="tcp://127.0.0.1:1")
