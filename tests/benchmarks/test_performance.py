"""`benchmarks/performance.py`: times of DeePTB, and the tables in a page."""

import json

import pytest

from harmose.bench.timing import Timing
from harmose.cli import main
from harmose.errors import ConfigError, FormatError


@pytest.fixture
def performance(benchmark_script):
    return benchmark_script("performance")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The folder of a quick benchmark."""
    out = tmp_path_factory.mktemp("bench") / "bench"
    assert main(["bench", "--quick", "--out", str(out)]) == 0
    return out


def test_deeptb(performance, bench, monkeypatch, tmp_path):
    def times(python, model, system, n_edges, limits, threads):
        assert (system.name, n_edges, limits.repeats, threads) == ("water-1", 6, 3, 1)
        return {name: Timing.of([(1.0, 1.0)]) for name in ("step", "predict")}

    monkeypatch.setattr(performance.deeptb, "check", lambda python: None)
    monkeypatch.setattr(performance.deeptb, "time_deeptb", times)
    for _ in range(2):  # the second time replaces the first
        performance.extend(bench, tmp_path / "python", kernels=False, into=None)
    content = json.loads((bench / "bench.json").read_text())
    assert [row["work"] for row in content["rows"] if row["by"] == "DeePTB"] == ["step stage1", "network stage1"]
    assert "| water-1 | 6 | training step | DeePTB | 1,000 ¹ |" in (bench / "bench.md").read_text()


def test_page(performance, bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{performance.BEGIN}\nold\n{performance.END}\nafter\n")
    for _ in range(2):
        performance.extend(bench, None, kernels=False, into=page)
        text = page.read_text()
        assert text.startswith(f"before\n{performance.BEGIN}\n")
        assert text.endswith(f"{performance.END}\nafter\n")
        assert text.count("**Prediction**") == 1
        assert "/bench/time.png)" in text
        assert "old" not in text


def test_bad_input(performance, bench, tmp_path):
    with pytest.raises(FormatError, match=r"expected the folder of a `harmose bench`, got no bench\.json"):
        performance.extend(tmp_path, None, kernels=False, into=None)
    (tmp_path / "page.md").write_text("mine")
    for page in ("page.md", "none.md"):
        with pytest.raises(FormatError, match="expected a page with the lines"):
            performance.extend(bench, None, kernels=False, into=tmp_path / page)
    with pytest.raises(ConfigError, match="--deeptb-python /no/python: expected an interpreter"):
        performance.extend(bench, tmp_path.__class__("/no/python"), kernels=False, into=None)
