"""`bench.md`: the tables of a bench, as they stand in docs/performance.md, and its pictures."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmose.bench.pictures import PICTURES
from harmose.bench.prediction import PARTS
from harmose.errors import FormatError
from harmose.evaluate.style import number, png

MOST_KERNELS = 10
"""Rows of the table of kernels in each piece of work: the most expensive ones."""

WHOLE = {"predict": "", "blocks of H": " ²", "in parts": " ³"}
"""What a prediction as a whole is called in the rows, with its mark in the table."""

BEGIN, END = "<!-- harmose bench -->", "<!-- end of harmose bench -->"

Content = Mapping[str, Any]


def write_bench(content: Content, out: Path) -> Path:
    """The Markdown file, and one PNG for each picture that has something to show."""
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
        _others(content),
        _memory(content),
        _starts(content),
        _kernels(content),
        "\n\n".join(shown),
    ]
    path = out / "bench.md"
    path.write_text("\n\n".join(p for p in parts if p) + "\n", encoding="utf-8")
    return path


def insert(bench: Path, page: Path) -> None:
    """What stands in `page` between the lines `BEGIN` and `END` becomes the tables and pictures of `bench`."""
    before, after = parted(page)
    folder = Path(os.path.relpath(bench.parent, page.parent)).as_posix()
    text = bench.read_text(encoding="utf-8")
    for name in PICTURES:
        text = text.replace(f"({name}.png)", f"({folder}/{name}.png)")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def parted(page: Path) -> tuple[str, str]:
    """What is before and after the place for tables; `FormatError` for a page without one."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FormatError(f"--into {page}: expected a page with the lines {BEGIN} and {END}")
    return before, after


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; the first column to the left, numbers to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def find(content: Content, system: str, what: str, by: str = "harmose") -> Content | None:
    """A row."""
    rows = content["rows"]
    return next((r for r in rows if (r["system"], r["what"], r["by"]) == (system, what, by)), None)


def names(content: Content) -> list[str]:
    """Of the systems, in the order in which they were asked for."""
    return list(dict.fromkeys(row["system"] for row in content["rows"]))


def time_of(row: Content | None, spread: bool = False, clock: str = "cpu") -> str:
    """Median in ms, and the range."""
    if row is None:
        return ""
    t = row["timing"][clock]
    if not spread or row["timing"]["repeats"] == 1:
        return number(1e3 * t["median"]) + (" ¹" if row["timing"]["repeats"] == 1 else "")
    return f"{number(1e3 * t['median'])} ({number(1e3 * t['low'])}–{number(1e3 * t['high'])})"


def _machine(content: Content) -> str:
    m, s = content["machine"], content["settings"]
    where = f"{m['accelerator']}, " if m["accelerator"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    columns = ("gemm_float32", "gemm_float64", "triad_cache", "triad_memory")
    head = ["threads", "float32, Gflop/s", "float64, Gflop/s", "triad in cache, GB/s", "triad in memory, GB/s"]
    rows = [[n, *(f"{speeds[c]:,.0f}" for c in columns)] for n, speeds in m["speeds"].items()]
    n, patience = s["threads"], s["patience"]
    lines = [
        f"{where}{m['processor']}, {m['cores']} cores, {m['platform']}, Python {m['python']}; {versions}.",
        (
            f"Run on {n} thread{'s' if n > 1 else ''}, device {m['device']}, in {content['seconds'] / 60:.1f} minutes; load of the machine "
            f"before: {m['load_before']:.1f}."
        ),
        "",
        (
            f"Processor time in milliseconds: the median of at most {patience['repeats']} repeats in {patience['seconds']:g} s, in "
            "brackets the range; ¹: run once."
        ),
        "Labels are the models' own predictions: what is learned does not matter here.",
    ]
    return "\n".join(lines) + f"\n\n{table(head, rows)}"


def _prediction(content: Content) -> str:
    parts = [p for p in PARTS if any(r["what"] == p for r in content["rows"])]
    head = [
        "system",
        "atoms",
        "directed edges",
        *(PARTS[p] for p in parts),
        "all",
        "wall",
        "edges/s, level aside",
        "network alone, edges/s",
    ]
    rows = []
    for name in names(content):
        whole = next((row for what in WHOLE if (row := find(content, name, what))), None)
        if whole is None:
            continue
        seconds = whole["timing"]["cpu"]["median"]
        network = sum(_median(content, name, stage) for stage in ("stage1", "stage2"))
        level = _median(content, name, "level") if whole["what"] == "predict" else 0.0
        rows.append(
            [
                name,
                f"{whole['atoms']:,}",
                f"{whole['edges']:,}",
                *(time_of(find(content, name, part)) for part in parts),
                time_of(whole, spread=True) + WHOLE[whole["what"]],
                time_of(whole, clock="wall"),
                number(whole["edges"] / (seconds - level)),
                number(whole["edges"] / network) if network else "",
            ]
        )
    note = (
        "²: without the Fermi level. ³: in parts, without the Fermi level. "
        "`all` is `Model.predict` and has also its checks and the novelty of the structure."
    )
    return f"**Prediction**\n\n{table(head, rows)}\n\n{note}"


def _median(content: Content, system: str, what: str) -> float:
    row = find(content, system, what)
    return row["timing"]["cpu"]["median"] if row else 0.0


def _training(content: Content) -> str:
    steps = {"step stage1": "stage 1", "step joint": "both stages"}
    compiled = {f"{what} compiled": f"{title}, compiled" for what, title in steps.items()}
    steps |= {what: title for what, title in compiled.items() if any(r["what"] == what for r in content["rows"])}
    head = ["system", "atoms", *steps.values(), "edges/s, stage 1", "batch, in memory", "batch, from a store"]
    rows = []
    for name in names(content):
        first = find(content, name, "step stage1")
        if first is None:
            continue
        shown = [time_of(find(content, name, what), spread=True) for what in steps]
        loading = [time_of(find(content, name, f"batch {how}")) for how in ("ready", "stored")]
        speed = number(first["edges"] / first["timing"]["cpu"]["median"])
        rows.append([name, f"{first['atoms']:,}", *shown, speed, *loading])
    return f"**Training step**: loss, gradient, optimizer, averaged weights\n\n{table(head, rows)}"


def _others(content: Content) -> str:
    found = [r for r in content["rows"] if r["by"] != "harmose"]
    if not found:
        return ""
    ours = {"step stage1": "step stage1", "network stage1": "stage1"}
    head = ["system", "directed edges", "work", "by", "ms", "harmose, stage 1", "ratio"]
    titles = {"step stage1": "training step", "network stage1": "network"}
    rows = []
    for r in found:
        own = find(content, r["system"], ours[r["what"]])
        if own is None:
            continue
        ratio = r["timing"]["cpu"]["median"] / own["timing"]["cpu"]["median"]
        rows.append(
            [
                r["system"],
                f"{r['edges']:,}",
                titles[r["what"]],
                r["by"],
                time_of(r, True),
                time_of(own, True),
                f"{ratio:.1f}",
            ]
        )
    text = (
        "**Beside others**: networks of the same widths and rounds of messages, the same graph; "
        "`network` is a prediction without harmose's closed form"
    )
    return f"{text}\n\n{table(head, rows)}"


def _memory(content: Content) -> str:
    if not content["memory"]:
        return ""
    head = ["system", "atoms", "prediction, MB", "above the loaded model", "training, MB", "above the loaded model"]
    rows = []
    for name in dict.fromkeys(m["system"] for m in content["memory"]):
        both = {m["work"]: m for m in content["memory"] if m["system"] == name}
        cells = [cell for work in ("predict", "train") for cell in _used(both.get(work))]
        rows.append([name, f"{both['predict']['atoms']:,}", *cells])
    return f"**Memory**: peak of a fresh process\n\n{table(head, rows)}"


def _used(m: Content | None) -> tuple[str, str]:
    return ("", "") if m is None else (f"{m['peak']:,.0f}", f"{m['peak'] - m['before']:,.0f}")


def _starts(content: Content) -> str:
    if not content["starts"]:
        return ""
    rows = [
        [
            f"`{name}`" if name.startswith(("import", "harmose")) else name,
            *(time_of({"timing": t}, True, c) for c in ("wall", "cpu")),
        ]
        for name, t in content["starts"].items()
    ]
    return f"**Start**: fresh processes, ms\n\n{table(['', 'wall', 'processor'], rows)}"


def _kernels(content: Content) -> str:
    if not content["kernels"]:
        return ""
    parts = []
    for work in dict.fromkeys(k["work"] for k in content["kernels"]):
        found = [k for k in content["kernels"] if k["work"] == work]
        total, flop = sum(k["calls"] * k["seconds"] for k in found), sum(k["calls"] * k["flop"] for k in found)
        bound = sum(k["calls"] * k["bound"] for k in found)
        head = ["kernel", "sizes", "calls", "Mflop", "MB", "µs", "Gflop/s", "bound by", "of the bound, %"]
        rows = [
            [
                f"`{k['name']}`" if k["of"] else k["name"],
                k["sizes"],
                str(k["calls"]),
                number(k["flop"] / 1e6),
                number(k["n_bytes"] / 1e6),
                number(1e6 * k["seconds"]),
                number(k["flop"] / k["seconds"] / 1e9),
                k["limit"],
                f"{100 * k['fraction']:.0f}",
            ]
            for k in found[:MOST_KERNELS]
        ]
        whole = ""
        if found[0]["of"]:
            n, speed, operators = sum(k["calls"] for k in found), flop / total / 1e9, found[0]["operators"]
            whole = (
                f": {n} products of {operators:,} calls of operators take {1e3 * total:.1f} of {1e3 * found[0]['of']:.1f} ms, "
                f"{flop / 1e9:.2f} Gflop at {speed:.0f} Gflop/s, {100 * bound / total:.0f} % of their bounds; the most expensive"
            )
        parts.append(f"*{work}*{whole}\n\n{table(head, rows)}")
    return "**Kernels**, graphene-3x3, each timed alone, its operands in the cache if they fit\n\n" + "\n\n".join(parts)
