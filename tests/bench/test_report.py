"""Tables and figures of a benchmark with given numbers."""

import numpy as np

from harmose.bench.pictures import memory, speeds, times
from harmose.bench.report import write_bench


def _timing(seconds, repeats=3):
    clock = {"median": seconds, "low": 0.9 * seconds, "high": 1.2 * seconds}
    return {"wall": clock, "cpu": clock, "repeats": repeats}


def _row(n, work, seconds, by="harmose", repeats=3):
    name, atoms, edges = f"graphene-{n}x{n}", 2 * n * n, 156 * n * n
    timing = _timing(seconds, repeats)
    return {
        "system": name,
        "atoms": atoms,
        "orbitals": 13 * atoms,
        "edges": edges,
        "work": work,
        "by": by,
        "timing": timing,
    }


def content():
    rows = []
    for n in (2, 4):
        size = n * n
        rows += [_row(n, part, 1e-4 * size) for part in ("graph", "frames", "stage1", "stage2", "regression", "blocks")]
        rows += [
            _row(n, "predict", 7e-4 * size),
            _row(n, "step stage1", 1e-3 * size),
            _row(n, "step joint", 2e-3 * size),
        ]
        rows += [_row(n, "step stage1", 5e-3 * size, by="e3nn", repeats=1)]
    return {
        "machine": {
            "processor": "one of many", "cores": 2, "device": "cpu", "accelerator": None, "platform": "Linux", "python": "3.11",
            "versions": {"torch": "2.13"}, "load_before": 0.5,
            "speeds": {"1": {"gemm_float32": 75.0, "gemm_float64": 38.0, "triad_cache": 60.0, "triad_memory": 14.0}},
        },
        "settings": {"threads": 1, "limits": {"repeats": 30, "seconds": 3.0}},
        "rows": rows,
        "starts": {"import harmose": _timing(0.05)},
        "memory": [
            {"system": "graphene-2x2", "atoms": 8, "work": work, "before": 100.0, "peak": peak}
            for work, peak in (("predict", 150.0), ("train", 300.0))
        ],
        "seconds": 90.0,
    }  # fmt: skip


def test_tables(tmp_path):
    text = write_bench(content(), tmp_path).read_text()
    assert "one of many, 2 cores, Linux, Python 3.11; torch 2.13.\nRun on 1 thread, device cpu, in 1.5 minutes" in text
    assert "| 1 | 75 | 38 | 60 | 14 |" in text
    assert (
        "| graphene-2x2 | 8 | 624 | 0.400 | 0.400 | 0.400 | 0.400 | 0.400 | 0.400 | 2.80 (2.52–3.36) | 2.80 | 222,857 | 780,000 |"
        in text
    )
    assert "| graphene-4x4 | 32 | 16.0 (14.4–19.2) | 32.0 (28.8–38.4) | 156,000 |" in text
    assert "| graphene-4x4 | 2,496 | training step | e3nn | 80.0 ¹ | 16.0 (14.4–19.2) | 5.0 |" in text
    assert "| graphene-2x2 | 8 | 150 | 50 | 300 | 200 |" in text
    assert "| `import harmose` | 50.0 (45.0–60.0) | 50.0 (45.0–60.0) |" in text
    assert {p.name for p in tmp_path.iterdir()} == {"bench.md", "time.png", "speed.png", "memory.png"}


def test_compiled_steps(tmp_path):
    found = content()
    found["rows"].append(_row(4, "step stage1 compiled", 6e-4 * 16))
    text = write_bench(found, tmp_path).read_text()
    assert "| stage 1 | both stages | stage 1, compiled | edges/s, stage 1 |" in text
    assert "| graphene-4x4 | 32 | 16.0 (14.4–19.2) | 32.0 (28.8–38.4) | 9.60 (8.64–11.5) | 156,000 |" in text


def test_slopes():
    figure = times(content())
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [
        "prediction, H ∝ atoms$^{1.00}$",
        "training step, stage 1 ∝ atoms$^{1.00}$",
        "training step, both stages ∝ atoms$^{1.00}$",
        "training step, e3nn ∝ atoms$^{1.00}$",
        "graphene, twisted bilayers",
    ]
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [8, 32])
    np.testing.assert_allclose(line.get_ydata(), [2.4, 9.6])


def test_speeds():
    figure = speeds(content())
    assert figure is not None
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 156 / 6e-4)


def test_nothing_to_draw():
    assert memory({**content(), "memory": []}) is None
    assert times({**content(), "rows": []}) is None


def test_further_sections(tmp_path):
    assert "\n\n**More**\n\n![" in write_bench(content(), tmp_path, ["**More**"]).read_text()
