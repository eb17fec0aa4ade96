"""The demo with few geometries in STO-3G and few steps, twice in the same folder."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import harmose
from harmose import demo
from harmose.demo import DemoSettings, geometries, run, training, water
from harmose.errors import ConfigError
from harmose.label.label import PySCFSettings

SMALL = DemoSettings(
    labels=PySCFSettings(functional="lda", basis="sto-3g", grid_level=0),
    n_train=10,
    n_val=2,
    n_test=3,
    workers=1,
    overrides=(
        "time_limit=null",
        "validations=1",
        "phases.stage1.steps=4",
        "phases.stage2.steps=2",
        "phases.joint.steps=2",
    ),
)


def console() -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False)


@pytest.mark.filterwarnings("ignore::harmose.errors.OutsideDomain")  # of a model of ten samples
def test_demo_twice(tmp_path, monkeypatch):
    out, first = tmp_path / "demo", console()
    results = run(out, first, SMALL)
    printed = first.file.getvalue()
    assert all(f"{k}/{demo.N_STEPS} " in printed for k in range(1, demo.N_STEPS + 1))
    assert all((out / name).exists() and str(out / name) in printed for name in demo.OUTPUTS)
    assert "regression" in printed
    assert results.evaluation.n_samples == 3
    assert (out / "report.html").read_text().startswith("<!doctype html>")

    # The files hold the printed energies, and DFT is that of PySCF.
    predicted, reference = harmose.read(out / "unseen.npz"), harmose.read(out / "unseen")
    energies = harmose.eigenvalues(predicted.hamiltonian, predicted.overlap)[0]
    np.testing.assert_allclose(energies, results.predicted.energies, atol=1e-9)
    np.testing.assert_allclose(reference.orbital_energies, results.dft.energies, atol=1e-6)
    assert results.scf.energy_difference < 1e-8
    assert predicted.structure.get_distance(0, 1) == pytest.approx(SMALL.new_geometry[0])

    with harmose.Store.open(out / "water") as store:
        assert {name: len(names) for name, names in store.splits.items()} == {"test": 3, "val": 2, "train": 10}
        assert sorted(name for names in store.splits.values() for name in names) == sorted(store.names())
        assert reference.name not in store

    monkeypatch.setattr("harmose.label.label.calculate", lambda *_: pytest.fail("calculated again"))
    again = console()
    assert run(out, again, SMALL).evaluation.to_json() == results.evaluation.to_json()
    assert "15 of them from an earlier run" in again.file.getvalue()
    assert "already trained" in again.file.getvalue()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_folder(tmp_path, kind):
    out = tmp_path / "demo"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="expected a"):
        run(out, console(), SMALL)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [
        out.name if kind == "file" else "report.html"
    ]


def test_geometries():
    settings = DemoSettings()
    structures = geometries(settings)
    assert len(structures) == settings.n_train + settings.n_val + settings.n_test
    internal = np.array([[a.get_distance(0, 1), a.get_distance(0, 2), a.get_angle(1, 0, 2)] for a in structures])
    ranges = np.array([settings.distances, settings.distances, settings.angles])
    assert (internal > ranges[:, 0]).all()
    assert (internal < ranges[:, 1]).all()
    assert np.ptp(internal, axis=0) / np.ptp(ranges, axis=1) == pytest.approx(1, abs=0.1)
    new = water(*settings.new_geometry)
    assert new.get_angle(1, 0, 2) == pytest.approx(settings.new_geometry[2])
    nearest = (
        np.abs(internal - settings.new_geometry)[:, :2].sum(1) + np.abs(internal[:, 2] - settings.new_geometry[2]) / 90
    )
    assert nearest.min() > 1e-3
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(structures, geometries(settings)))


def test_configuration(tmp_path):
    config = training(tmp_path, replace(SMALL, overrides=()))
    assert config.time_limit is not None
    assert config.time_limit <= 180  # the whole demo: at most eight minutes on two cores
    assert (config.data, config.out) == (tmp_path / "water", tmp_path / "model")
    assert training(tmp_path, replace(SMALL, overrides=("seed=7",))).seed == 7
    assert (tmp_path / "train.yaml").read_text().startswith("# The training of `harmose demo`")
