"""The report is one file with the numbers of the evaluation, loads nothing, and is written completely or not."""

from dataclasses import dataclass, replace
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

from harmose.errors import ConfigError, FormatError
from harmose.evaluate.evaluation import METRICS
from harmose.evaluate.metrics import RotationError, evaluate
from harmose.evaluate.report import read_history, table_rows, terminal_table, write_report
from harmose.units import MICRO_HARTREE

HISTORY = [
    {"step": k, "phase": "stage1", "seconds": k, "loss": 1 / (k + 1), "mae_val": 0.1 / (k + 1)} for k in range(4)
]


class Page(HTMLParser):
    """Text, addresses and nesting of an HTML page."""

    void = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.text, self.addresses, self.tags, self.open = [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def made(predictions):
    return predictions(4)


@pytest.fixture(scope="module")
def evaluation(made):
    rotation = {"stage1": RotationError(1e-9, 1e-10, 2, 2), "full": RotationError(1e-4, 1e-5, 2, 2)}
    return evaluate(made, rotations=rotation)


@pytest.fixture
def unpainted(monkeypatch):
    """Replace figures by an empty address: much faster, for tests of the text."""
    monkeypatch.setattr("harmose.evaluate.report.data_uri", lambda figure: "data:,")


def in_terminal(renderable, width: int = 100) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(renderable)
    return out.getvalue()


def test_terminal_table(evaluation):
    text = in_terminal(terminal_table(evaluation, "uEh"))
    for metric in METRICS:
        other_systems = (
            "bands",
            "band_gap",
            "ghost_states",
            "spin_orbit",
            "spin_orbit_relative",
            "splittings",
            "splittings_relative",
        )
        assert (metric.title in text) != (metric.name in other_systems)
    for stage in evaluation.stages.values():
        assert f"{stage.mae / MICRO_HARTREE:.3g}" in text.replace(",", "")
    assert f"{evaluation.reduction('mae'):.1f} %" in text
    assert f"challenging block: {evaluation.challenging_block}" in text
    assert "energies in meV" in in_terminal(terminal_table(evaluation, "meV"))


def test_columns(made):
    four = [replace(p, stages={"regression": p.full, **p.stages, "network": p.full + p.full}) for p in made]
    text = in_terminal(terminal_table(evaluate(four)), width=150)
    header = next(line for line in text.splitlines() if "metric" in line)
    titles = ["metric", "regression", "+ stage 1", "+ stage 2", "network alone", "reduction by stage 2"]
    assert [cell.strip() for cell in header.strip("┃ ").split("┃")] == titles
    one = in_terminal(terminal_table(evaluate([replace(p, stages={"stage1": p.full, "full": p.full}) for p in made])))
    assert "stage 1" in one
    assert "stage 2" not in one
    assert "reduction" not in one


def test_rows(made):
    bare = evaluate([replace(p, sample=replace(p.sample, overlap=None)) for p in made])
    assert [row.metric.name for row in table_rows(bare, "eV")] == [
        "mae", "mae_elements", "mae_challenging_samples", "worst", "mae_challenging_block"]  # fmt: skip


def test_digits_of_similarities_and_larger_errors(evaluation):
    stage1 = replace(evaluation.stages["stage1"], wavefunction=0.999, mae=2.0, rotation_error=1e-9)
    full = replace(evaluation.full, wavefunction=0.99999975, mae=2.5, rotation_error=1e-5)
    changed = replace(evaluation, stages={"stage1": stage1, "full": full})
    rows = {row.metric.name: row for row in table_rows(changed, "eV")}
    assert [*rows["wavefunction"].cells.values()] == ["0.99900000", "0.99999975"]
    assert rows["mae"].reduction == "−25.0 %"
    assert rows["rotation_error"].reduction == "× 10,000"


def test_report(tmp_path, evaluation, made, gathered):
    path = write_report(
        tmp_path / "sub" / "report.html",
        evaluation,
        gathered(made),
        made[2],
        HISTORY,
        {"functional": "pbe"},
        title="Water",
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags.count("img") == 9
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    text = " ".join(page.text)
    for heading in (
        "Water",
        "Metrics",
        "Training",
        "Prediction and DFT",
        "Errors by block",
        "Errors by sample",
        "Model",
    ):
        assert heading in text
    for row in table_rows(evaluation, "uEh"):
        assert row.cells["full"] in text
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_report_without_history_card_and_orbitals(tmp_path, made, gathered):
    bare = [replace(p, stages={"full": p.full}, sample=replace(p.sample, overlap=None)) for p in made]
    page = Page(
        write_report(tmp_path / "report.html", evaluate(bare), gathered(bare), bare[2]).read_text(encoding="utf-8")
    )
    assert page.tags.count("img") == 4
    assert "Training" not in page.text


@pytest.mark.usefixtures("unpainted")
def test_names_are_escaped(tmp_path, made, gathered):
    hostile = [replace(p, sample=replace(p.sample, name=f"<script>alert({k})</script>")) for k, p in enumerate(made)]
    card = {"functional": "<img src=x onerror=alert(1)>", "<b>": "y"}
    path = write_report(
        tmp_path / "r.html",
        evaluate(hostile),
        gathered(hostile),
        hostile[2],
        [{"phase": "<i>", **HISTORY[0]}],
        card,
        title="<u>",
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert not {"script", "u", "i"} & set(page.tags)
    assert "x" not in page.addresses
    assert "<script>alert(0)</script>" in page.text


@pytest.mark.usefixtures("unpainted")
def test_card_object(tmp_path, evaluation, made, gathered):
    @dataclass
    class Card:
        elements: tuple
        basis: object
        functional: str
        needs_prior: bool
        settings: dict

    card = Card((1, 8), made[0].sample.basis, "pbe", True, {"grid_level": 3})
    text = " ".join(Page(write_report(tmp_path / "r.html", evaluation, gathered(made), card=card).read_text()).text)
    assert "H, O" in text
    assert "pbe / sto-3g" in text
    assert "grid_level: 3" in text


def test_history_from_csv(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,phase,seconds,mae_val\n1,stage1,0.5,\n2,stage1,1.0,0.25\n")
    rows = read_history(path)
    assert [row["mae_val"] for row in rows] == ["", "0.25"]
    with pytest.raises(FormatError, match=r"none\.csv: expected a training log in CSV"):
        read_history(tmp_path / "none.csv")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="expected a training log in CSV"):
        read_history(path)


@pytest.mark.usefixtures("unpainted")
def test_full_disk(tmp_path, evaluation, made, gathered, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(FormatError, match=r"report\.html: cannot be written \(No space left on device\)"):
        write_report(path, evaluation, gathered(made))
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_unknown_unit(tmp_path, evaluation, made, gathered):
    with pytest.raises(ConfigError, match="unit: expected one of"):
        write_report(tmp_path / "report.html", evaluation, gathered(made), unit="kcal")
    with pytest.raises(ConfigError, match="unit: expected one of"):
        terminal_table(evaluation, "kcal")
    assert not list(tmp_path.iterdir())


def test_crystals(tmp_path, crystals, gathered):
    result = evaluate(crystals)
    text = in_terminal(terminal_table(result, "meV"))
    assert "Band energies" in text
    assert "Ghost states" in text
    assert "HOMO" not in text
    write_report(tmp_path / "report.html", result, gathered(crystals), crystals[0], unit="meV")
    page = (tmp_path / "report.html").read_text()
    assert "bands of the prediction over DFT" in page
    assert "<th>ghost states</th>" in page
    assert "<th>wavefunction</th>" not in page
    assert "relative to the Fermi level of DFT" in page
