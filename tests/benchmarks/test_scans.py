"""`benchmarks/scans.py` with an untrained model: structures, labels by geometry, refusals, rows, checks, picture."""

import json
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from harmose.core.sample import Sample
from harmose.core.structure import check_structure
from harmose.data.store import Store
from harmose.errors import FormatError, OutsideDomain
from harmose.inference.checkpoint import load
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import PySCFSettings
from harmose.io.structures import read_structures
from harmose.label import code_of
from harmose.label.label import sample_name
from harmose.units import HARTREE, MICRO_HARTREE

PNG = b"\x89PNG"


@pytest.fixture
def structures(benchmark_script):
    return benchmark_script("scan_structures")


@pytest.fixture
def scans(benchmark_script):
    return benchmark_script("scans")


@pytest.fixture
def report(benchmark_script):
    return benchmark_script("scans_report")


@pytest.fixture
def picture(benchmark_script):
    return benchmark_script("scans_picture")


@pytest.fixture
def point(report):
    """`point(name, regression=..., full=..., ...)`: a predicted water with these errors in micro-Hartree."""

    def make(name: str, scan: str = "O-H", x: float = 1.0, unit: str = "uEh", flagged: bool = False, **errors: float):
        own = {stage: error * MICRO_HARTREE for stage, error in errors.items()}
        largest = {stage: 500.0 if np.isfinite(error) else np.inf for stage, error in own.items()}
        return report.Point(
            "m", "water", scan, x, name, "H2O", unit, "predicted", "", flagged, own, largest, largest_label=520.0
        )

    return make


@pytest.fixture
def run(scans, structures, water_atoms, water_store, water_basis, untrained_model, monkeypatch, tmp_path, capsys):
    """`run(*arguments)`: exit code and output of the script, on eight labelled waters, one without a label, and O2."""
    oxygen = structures.named(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]), "unusual", 0)
    h = zeros(oxygen, water_basis)
    with Store.open(water_store, writable=True) as store:
        store.append(Sample("oxygen", oxygen, water_basis, h, n_electrons=16.0), check=False)

    def waters():
        yield from (structures.named(water_atoms(k), "O-H", 1 + k / 10) for k in range(4))
        yield oxygen
        yield from (structures.named(water_atoms(k), "grid inside", k) for k in range(4, 9))  # water-8 is not there

    monkeypatch.setitem(structures.SETS, "water", waters)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["scans.py", *arguments])
        code = scans.main()
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    call.usual = (str(untrained_model), str(water_store), "--scans", "water", "--out", str(tmp_path / "out"))
    return call


# Structures ----------------------------------------------------------------------------------------------------------


def test_structures(structures):
    counts = {name: list(made()) for name, made in structures.SETS.items()}
    assert {name: len(made) for name, made in counts.items()} == {
        "water": 1073,
        "organics": 221,
        "graphene": 21,
        "bilayer": 8,
    }
    for made in counts.values():
        assert max(Counter(atoms.info["name"] for atoms in made).values()) == 1
        for atoms in made:
            check_structure(atoms, atoms.info["name"])
            assert all(structures.titles(atoms.info["scan"])[:1])


def test_grids(structures):
    """All points of one grid lie in the box, none of the other; both are the same in each run."""

    def distances(atoms):
        return np.array([atoms.get_distance(0, 1), atoms.get_distance(0, 2), atoms.get_distance(1, 2)])

    grids = {"grid inside": [], "grid around": []}
    for atoms in structures.grids():
        grids[atoms.info["scan"]].append(distances(atoms))
    low, high = structures.BOX.T
    for scan, inside in (("grid inside", True), ("grid around", False)):
        points = np.array(grids[scan])
        assert len(points) == structures.N_GRID
        assert (((points > low - 1e-9) & (points < high + 1e-9)).all(axis=1) == inside).all()
    again = [distances(atoms) for atoms in structures.grids()]
    assert np.array_equal(again, [*grids["grid inside"], *grids["grid around"]])


@pytest.mark.parametrize("name", ["CH3CH2OH", "NF3", "HCN"])
def test_stretched(structures, name):
    """One bond changes; the distances on either side of it stay as they are."""
    first, second = (structures.BONDS | structures.HETEROATOMS)[name]
    before, after = (
        molecule(name).get_all_distances(),
        structures.stretched(name, (first, second), 1.5).get_all_distances(),
    )
    assert after[first, second] == pytest.approx(1.5 * before[first, second])
    same = np.abs(after - before) < 1e-9
    sides = {tuple(row) for row in same.tolist()}
    assert len(sides) == 2
    assert not same[first, second]


def test_titles(structures):
    assert structures.titles("bond of H2CO") == ("C-O bond of H2CO", "length / that at rest")
    assert structures.titles("strain along one vector (%)") == ("Strain along one vector", "")
    assert structures.titles("O-H")[1] == "O-H distance (Å)"


def test_structures_command(structures, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["scan_structures.py", str(tmp_path / "new")])
    assert structures.main() == 0
    assert "bilayer.xyz: 8 structures" in capsys.readouterr().out
    assert len(read_structures(tmp_path / "new" / "graphene.xyz")) == 21


# Evaluation ----------------------------------------------------------------------------------------------------------


def test_rows(run, tmp_path, water_sample, untrained_model):
    """Errors and flags are those of the model's public methods, in batches that hold a structure that it refuses."""
    code, printed = run(*run.usual, "--median", "1")
    assert code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["predicted"] * 4 + ["refused"] + ["predicted"] * 4 + ["no label"]
    assert "no pair" in rows[4]["reason"]
    model = load(untrained_model)
    for seed, row in zip((0, 1, 2, 3, 4, 5, 6, 7), [*rows[:4], *rows[5:9]], strict=True):
        sample = water_sample(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stages = model.predict_stages([sample.structure])
        assert row["flagged"] == any(issubclass(w.category, OutsideDomain) for w in caught)
        for stage, (h,) in stages.items():
            error = np.abs(h.dense() - sample.hamiltonian.dense()).mean()
            assert row["errors"][stage] == pytest.approx(error, rel=1e-4, abs=1e-9)
            assert row["largest"][stage] == pytest.approx(np.abs(h.dense()).max(), rel=1e-4)
    assert "| **all** | 10 |" in printed
    assert "- no label (not in the store): grid-inside-8" in printed
    assert (tmp_path / "out.png").read_bytes().startswith(PNG)


def test_rows_again(run, tmp_path):
    """Tables and picture are made again from the rows."""
    _, first = run(*run.usual, "--median", "1")
    _, again = run("--from", str(tmp_path / "out.jsonl"), "--median", "1", "--out", str(tmp_path / "again"))
    assert first.startswith(again)  # then the progress
    for name in ("jsonl", "md", "png"):
        assert (tmp_path / f"out.{name}").read_bytes() == (tmp_path / f"again.{name}").read_bytes()


def test_bad_input(run, tmp_path, water_store, structures, monkeypatch):
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    code, printed = run("--from", str(tmp_path / "other.jsonl"))
    assert (code, "expected the rows of an earlier run" in printed) == (2, True)
    with pytest.raises(SystemExit):
        run("model", "store")
    monkeypatch.setitem(structures.SETS, "water", lambda: iter([structures.named(structures.water(), "O-H", 1.0)]))
    code, printed = run(*run.usual)
    assert (code, "expected labels of the scans water, got none" in printed) == (2, True)


def test_settings(scans, untrained_model, tmp_path, water_basis):
    with (
        Store.create(tmp_path / "pbe", water_basis, metadata={"functional": "pbe"}) as store,
        pytest.raises(FormatError, match="expected labels with the model's functional hf, got pbe"),
    ):
        scans.check_settings(load(untrained_model), store)


def test_labels_by_geometry(scans, water_sample, water_atoms):
    """Coordinates may differ by the digits of a file; other molecules and other geometries are not confused."""
    samples = [water_sample(k) for k in range(3)]
    turned = water_atoms(1)[[1, 0, 2]]
    structures = [water_atoms(2), turned, water_atoms(5), molecule("CH4")]
    structures[0].positions = structures[0].positions.round(8)
    assert scans.find_labels(structures, samples) == [samples[2], None, None, None]


def test_label_names(scans, water_atoms, water_basis, tmp_path):
    """The names are those under which `harmose label` keeps failures of the same file."""
    structures, settings = [water_atoms(k) for k in range(3)], PySCFSettings("hf", "sto-3g", max_cycle=7)
    write(tmp_path / "water.xyz", structures)
    expected = [sample_name(atoms, settings) for atoms in read_structures(tmp_path / "water.xyz")]
    with Store.create(tmp_path / "own", water_basis, metadata=code_of(settings).identity(settings)) as store:
        assert scans.label_names(structures, store) == expected
    with Store.create(tmp_path / "other", water_basis, metadata={"functional": "hf"}) as store:
        assert scans.label_names(structures, store) == ["", "", ""]


def test_failed_label(run, scans, tmp_path, water_store, water_atoms, monkeypatch):
    monkeypatch.setattr(scans, "label_names", lambda structures, store: [f"name-{k}" for k in range(len(structures))])
    with Store.open(water_store, writable=True) as store:
        store.remember_failure("name-9", "water.xyz, frame 9: H2O: not converged in 7 cycles")
    _, printed = run(*run.usual)
    assert "- failed in DFT (H2O: not converged in 7 cycles): grid-inside-8" in printed


def test_batches(scans, water_sample, monkeypatch):
    samples = [water_sample(k) for k in range(7)]  # 3 pairs each
    monkeypatch.setattr(scans, "BATCH", 3)
    assert [len(batch) for batch in scans.batches(samples)] == [3, 3, 1]
    monkeypatch.setattr(scans, "BATCH_PAIRS", 6)
    assert [len(batch) for batch in scans.batches(samples)] == [2, 2, 2, 1]
    monkeypatch.setattr(scans, "BATCH_PAIRS", 1)
    assert list(scans.batches(samples)) == [[sample] for sample in samples]
    assert list(scans.batches([])) == []


def test_crash(scans, untrained_model, water_sample, monkeypatch):
    """Another exception than the model's own is told apart, and takes only its own structure."""
    samples, model = [water_sample(k) for k in range(5)], load(untrained_model)
    predict = type(model)._predict

    def fragile(self, structures, *more):
        if any(atoms is samples[3].structure for atoms in structures):
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return predict(self, structures, *more)

    monkeypatch.setattr(type(model), "_predict", fragile)
    outcomes = scans.predict(model, samples)
    assert outcomes[3] == scans.Refusal("crashed", "LinAlgError: Eigenvalues did not converge")
    assert all(isinstance(outcomes[k], scans.Prediction) for k in (0, 1, 2, 4))


def test_not_finite(scans, report, water_sample, tmp_path):
    """A prediction that is not finite has an infinite error, and null in the rows, which JSON can hold."""
    sample = water_sample(0)
    values = sample.hamiltonian.values.copy()
    values[0, 3] = np.nan
    known = dict(model="m", scans="water", scan="O-H", x=1.0, name="a", formula="H2O", unit="uEh")
    stages = {"regression": sample.hamiltonian, "full": sample.hamiltonian.with_values(values)}
    row = scans.measured(known, sample, scans.Prediction(stages, "far out"))
    assert (row.errors, row.flagged, report.not_finite(row)) == ({"regression": 0.0, "full": np.inf}, True, True)
    report.write_points([row], tmp_path / "rows.jsonl")
    assert '"full": null' in (tmp_path / "rows.jsonl").read_text()
    assert report.read_points(tmp_path / "rows.jsonl") == [row]


def test_prior(scans, untrained_model, water_sample):
    """H0 by itself is a stage where the model adds it; without, the means that its regression fades to."""
    model, samples = load(untrained_model), [water_sample(0)]
    means = scans.predict(model, samples)[0].stages["prior"]
    assert not means.values[:, means.offsets[3] :].any()
    model = replace(model, card=replace(model.card, needs_prior=True))
    found = scans.predict(model, samples)[0].stages["prior"]
    np.testing.assert_allclose(found.values, samples[0].prior.values, atol=1e-9)


# Checks and tables ---------------------------------------------------------------------------------------------------


def test_checks_pass(report, point):
    points = [point("a", regression=2, stage1=1, full=0.5), point("b", "grid inside", prior=900, regression=10, full=9)]
    found = report.checks(points, 0.1)
    assert [check.passed for check in found] == [True] * 7 + [False]
    assert found[-1].value == "0.0% (0 of 1)"
    assert report.checks(points, None)[-1].passed is None


def test_checks_fail(report, point):
    points = [
        point("a", prior=50, regression=4, stage1=8, full=12, flagged=True),
        point("b", regression=0.1, stage1=0.2, full=0.4),
        point("c", "grid around", prior=1, pairs=3, regression=5, full=30_000),
    ]
    mean, worst, floor, largest, elements, finite, around, flags = report.checks(points, 1.0)
    assert mean.value == report.number((12 + 0.4 + 30_000) / (4 + 0.1 + 1))
    assert worst.value == "30,000 (3 of 3 above the limit)"
    assert floor.value == "30,000 (2 of 3 above the limit)"
    assert (largest.value, largest.limit, largest.passed) == ("30,000 µEh (c)", "20,000 µEh", False)
    assert elements.passed
    assert finite.passed
    assert around.value == "10,000"
    assert flags.value == "50.0% (1 of 2)"
    assert "above 10 times the median of the test set: c (30,000)" in report.report(points, 1.0)


def test_checks_not_finite(report, point):
    points = [point("a", regression=4, full=np.inf), point("b", regression=4, full=3)]
    found = report.checks(points, None)
    assert [check.passed for check in found] == [False] * 6 + [None]
    assert found[4].value == "∞ eV (1 structures above the limit)"
    assert found[5].value == "1"


def test_ratio(report):
    error, best = np.array([4.0, 1.0, np.inf, 3.0]), np.array([1.0, 2.0, np.inf, np.inf])
    assert report.ratio(error, best).tolist() == [4, 0.5, np.inf, 0]
    assert report.ratio(error, best, floor=5.0).tolist() == [1, 0.5, np.inf, 0]


def test_units_of_crystals(report, point):
    found = report.checks([point("a", unit="meV", regression=1, full=1)], None)
    assert found[3].limit == f"{20 * HARTREE:,.0f} meV"
    assert "above 0.05 meV only" in found[2].title


def test_listed(report, point):
    points = [point(f"p{k}", regression=1, full=100 + k) for k in range(5)]
    assert "p4 (104), p3 (103), and 3 more" in report.report(points, 1.0, listed=2)
    assert "p0 (100)\n" in report.report(points, 1.0)


# Picture -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("median", [None, 0.1])
def test_picture(report, picture, point, median):
    """One panel for each scan, those of one structure together, grids last; points beyond the axis are marked."""
    everything = {"prior": 5e3, "pairs": 300.0, "regression": 20.0, "stage1": 3.0}
    points = [point(f"g{k}", "grid inside", k, regression=k + 1, full=10.0**k) for k in range(12)]
    points += [point(f"s{k}", "O-H", 1 + k, **everything, full=f) for k, f in enumerate((1.0, 1e20, np.inf))]
    points += [report.Point("m", "water", "O-H", 9.0, "s9", "H2O", "uEh", "refused", "no such pair")]
    points += [point("v", "vacancy", 1, regression=2.0, full=1.0), point("u", "unusual", 0, regression=2.0, full=1.0)]
    figure = picture.draw(points, median)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == ["One O-H bond stretched", "Single structures", "Grid in the training range"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that failed
        assert picture_bytes(figure).startswith(PNG)
    markers = {line.get_marker() for line in figure.axes[0].lines}
    assert {"o", "^", "x"} <= markers
    assert "1 refused (9)" in [text.get_text() for text in figure.axes[0].texts]


def test_picture_without_predictions(report, picture):
    points = [report.Point("m", "water", "O-H", 1.0, "a", "H2O", "uEh", "refused", "no such pair")]
    points += [report.Point("m", "water", "grid inside", k, f"g{k}", "H2O", "uEh", "no label") for k in range(2)]
    assert picture_bytes(picture.draw(points, None)).startswith(PNG)
    assert "- refused (no such pair): a" in report.report(points, None)


def picture_bytes(figure) -> bytes:
    from harmose.evaluate.style import png

    return png(figure, dpi=40)
