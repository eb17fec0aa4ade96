"""`bench.md`: the tables of a benchmark in Markdown, and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmose.bench.pictures import PICTURES
from harmose.bench.prediction import STEPS
from harmose.evaluate.style import number, png

WHOLE_PREDICTION = {"predict": "", "blocks of H": " ²", "in parts": " ³"}
"""Names in the rows of a prediction as a whole, with their footnote mark."""

Content = Mapping[str, Any]
"""Content of bench.json."""


def write_bench(content: Content, out: Path, more: Sequence[str] = ()) -> Path:
    """Write bench.md, and one PNG file for each figure that has something to show; `more` are further sections."""
    shown = []
    for name, (title, draw) in PICTURES.items():
        figure = draw(content)
        if figure is not None:
            (out / f"{name}.png").write_bytes(png(figure))
            shown.append(f"![{title}]({name}.png)")
    parts = [
        _machine(content),
        _prediction(content),
        _training(content),
        _comparison(content),
        _memory(content),
        _starts(content),
        *more,
        "\n\n".join(shown),
    ]
    path = out / "bench.md"
    path.write_text("\n\n".join(p for p in parts if p) + "\n", encoding="utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are aligned right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _row(content: Content, system: str, work: str, by: str = "harmose") -> Content | None:
    rows = content["rows"]
    return next((r for r in rows if (r["system"], r["work"], r["by"]) == (system, work, by)), None)


def _systems(content: Content) -> list[str]:
    return list(dict.fromkeys(row["system"] for row in content["rows"]))


def _time(row: Content | None, spread: bool = False, clock: str = "cpu") -> str:
    """Median in ms, with the range if `spread`."""
    if row is None:
        return ""
    t = row["timing"][clock]
    if not spread or row["timing"]["repeats"] == 1:
        return number(1e3 * t["median"]) + (" ¹" if row["timing"]["repeats"] == 1 else "")
    return f"{number(1e3 * t['median'])} ({number(1e3 * t['low'])}–{number(1e3 * t['high'])})"


def _median(row: Content | None) -> float:
    return row["timing"]["cpu"]["median"] if row else 0.0


def _machine(content: Content) -> str:
    m, s = content["machine"], content["settings"]
    where = f"{m['accelerator']}, " if m["accelerator"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    columns = ("gemm_float32", "gemm_float64", "triad_cache", "triad_memory")
    head = ["threads", "float32, Gflop/s", "float64, Gflop/s", "triad in cache, GB/s", "triad in memory, GB/s"]
    rows = [[n, *(f"{speeds[c]:,.0f}" for c in columns)] for n, speeds in m["speeds"].items()]
    n, limits = s["threads"], s["limits"]
    run_on = f"Run on {n} thread{'s' if n > 1 else ''}, device {m['device']}, in {content['seconds'] / 60:.1f} minutes"
    text = (
        f"{where}{m['processor']}, {m['cores']} cores, {m['platform']}, Python {m['python']}; {versions}.\n"
        f"{run_on}; load of the machine before: {m['load_before']:.1f}.\n\n"
        f"Processor time in milliseconds: median, and in brackets the range, of at most {limits['repeats']} repeats in "
        f"{limits['seconds']:g} s; ¹: run once. Labels are the models' own predictions."
    )
    return f"{text}\n\n{table(head, rows)}"


def _prediction(content: Content) -> str:
    steps = [step for step in STEPS if any(r["work"] == step for r in content["rows"])]
    head = ["system", "atoms", "directed edges", *(STEPS[step] for step in steps)]
    head += ["all", "wall", "edges/s without Fermi level", "edges/s of the network"]
    rows = []
    for name in _systems(content):
        whole = next((row for work in WHOLE_PREDICTION if (row := _row(content, name, work))), None)
        if whole is None:
            continue
        network = sum(_median(_row(content, name, stage)) for stage in ("stage1", "stage2"))
        fermi_level = _median(_row(content, name, "complete")) if whole["work"] == "predict" else 0.0
        rows.append(
            [
                name,
                f"{whole['atoms']:,}",
                f"{whole['edges']:,}",
                *(_time(_row(content, name, step)) for step in steps),
                _time(whole, spread=True) + WHOLE_PREDICTION[whole["work"]],
                _time(whole, clock="wall"),
                number(whole["edges"] / (_median(whole) - fermi_level)),
                number(whole["edges"] / network) if network else "",
            ]
        )
    note = (
        "²: without the Fermi level. ³: in parts, without the Fermi level. "
        "`all` is `Model.predict`, which also checks the structure against the training domain."
    )
    return f"**Prediction**\n\n{table(head, rows)}\n\n{note}"


def _training(content: Content) -> str:
    steps = {"step stage1": "stage 1", "step joint": "both stages"}
    compiled = {f"{work} compiled": f"{title}, compiled" for work, title in steps.items()}
    steps |= {work: title for work, title in compiled.items() if any(r["work"] == work for r in content["rows"])}
    head = ["system", "atoms", *steps.values(), "edges/s, stage 1", "batch, in memory", "batch, from a store"]
    rows = []
    for name in _systems(content):
        first = _row(content, name, "step stage1")
        if first is None:
            continue
        shown = [_time(_row(content, name, work), spread=True) for work in steps]
        loading = [_time(_row(content, name, f"batch {kind}")) for kind in ("ready", "stored")]
        rows.append([name, f"{first['atoms']:,}", *shown, number(first["edges"] / _median(first)), *loading])
    return f"**Training step**: loss, gradient, optimizer, averaged weights\n\n{table(head, rows)}"


def _comparison(content: Content) -> str:
    other_rows = [r for r in content["rows"] if r["by"] != "harmose"]
    if not other_rows:
        return ""
    own_work = {"step stage1": "step stage1", "network stage1": "stage1"}
    titles = {"step stage1": "training step", "network stage1": "network"}
    head = ["system", "directed edges", "work", "library", "ms", "harmose, stage 1", "ratio"]
    rows = []
    for r in other_rows:
        own = _row(content, r["system"], own_work[r["work"]])
        if own is None:
            continue
        ratio = f"{_median(r) / _median(own):.1f}"
        cells = [titles[r["work"]], r["by"], _time(r, True), _time(own, True), ratio]
        rows.append([r["system"], f"{r['edges']:,}", *cells])
    text = (
        "**Other libraries**: networks of the same widths and number of layers, on the same graph; "
        "`network` is a prediction without the regression"
    )
    return f"{text}\n\n{table(head, rows)}"


def _memory(content: Content) -> str:
    if not content["memory"]:
        return ""
    head = ["system", "atoms", "prediction, MB", "above the loaded model", "training, MB", "above the loaded model"]
    rows = []
    for name in dict.fromkeys(m["system"] for m in content["memory"]):
        by_work = {m["work"]: m for m in content["memory"] if m["system"] == name}
        cells = [cell for work in ("predict", "train") for cell in _peaks(by_work.get(work))]
        rows.append([name, f"{by_work['predict']['atoms']:,}", *cells])
    return f"**Memory**: peak of a new process\n\n{table(head, rows)}"


def _peaks(m: Content | None) -> tuple[str, str]:
    return ("", "") if m is None else (f"{m['peak']:,.0f}", f"{m['peak'] - m['before']:,.0f}")


def _starts(content: Content) -> str:
    if not content["starts"]:
        return ""
    rows = [
        [
            f"`{name}`" if name.startswith(("import", "harmose")) else name,
            *(_time({"timing": timing}, True, clock) for clock in ("wall", "cpu")),
        ]
        for name, timing in content["starts"].items()
    ]
    return f"**Start**: new processes, ms\n\n{table(['', 'wall', 'processor'], rows)}"
