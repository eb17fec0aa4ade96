"""Add to the folder of a `harmose bench`: times of DeePTB, products of matrices against the machine's limits.

    harmose bench --against e3nn --out BENCH
    python benchmarks/performance.py BENCH [--deeptb-python ENV/bin/python] [--kernels] [--into PAGE]

`benchmarks/deeptb.sh ENV` makes the environment. The results are added to bench.json and bench.md. `--into` writes the
tables and figures into a Markdown page, between the lines `<!-- harmose bench -->` and `<!-- end of harmose bench -->`.
"""

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import deeptb
import typer
from kernels import kernel_section, measure_kernels

from harmose.bench.pictures import PICTURES
from harmose.bench.report import write_bench
from harmose.bench.rows import MOST_EDGES_COMPARED, Row
from harmose.bench.systems import system
from harmose.bench.timing import BenchmarkLimits, threads
from harmose.errors import FormatError, HarmoseError
from harmose.inference.checkpoint import load

BEGIN, END = "<!-- harmose bench -->", "<!-- end of harmose bench -->"


def main(
    bench: Annotated[Path, typer.Argument(help="Folder of a `harmose bench`.")],
    deeptb_python: Annotated[Path | None, typer.Option(help="Interpreter that can import dptb: time DeePTB.")] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Time the products of matrices.")] = False,
    into: Annotated[Path | None, typer.Option(help="Markdown page to write tables and figures into.")] = None,
) -> None:
    """Add times of DeePTB and of matrix products to a benchmark; write it into a page."""
    try:
        extend(bench, deeptb_python, kernels, into)
    except HarmoseError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def extend(bench: Path, deeptb_python: Path | None, kernels: bool, into: Path | None) -> None:
    """Extend bench.json and bench.md; `FormatError` for another folder or page, before anything is timed."""
    file = bench / "bench.json"
    if not file.is_file():
        raise FormatError(f"{bench}: expected the folder of a `harmose bench`, got no bench.json")
    if into is not None:
        split_page(into)
    if deeptb_python is not None:
        deeptb.check(deeptb_python)
    content = json.loads(file.read_text(encoding="utf-8"))
    settings = content["settings"]
    limits = BenchmarkLimits(**settings["limits"])
    with threads(settings["threads"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the systems may lie outside the models' training domains
        if deeptb_python is not None:
            rows = [row for row in content["rows"] if row["by"] != "DeePTB"]
            content["rows"] = rows + deeptb_rows(content, deeptb_python, limits)
        if kernels:
            content["kernels"] = measure_kernels(limits, settings["device"])
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    more = [kernel_section(content["kernels"])] if content.get("kernels") else []
    page = write_bench(content, bench, more)
    if into is not None:
        insert(page, into)
    typer.echo(str(page))


def deeptb_rows(content: dict[str, Any], python: Path, limits: BenchmarkLimits) -> list[dict[str, Any]]:
    """Rows of DeePTB for every system whose training step was timed."""
    settings, rows = content["settings"], []
    for row in content["rows"]:
        if (row["work"], row["by"]) != ("step stage1", "harmose") or row["edges"] > MOST_EDGES_COMPARED:
            continue
        chosen = system(row["system"], settings["model"])
        times = deeptb.time_deeptb(python, load(chosen.model), chosen, row["edges"], limits, settings["threads"])
        for name, work in (("step", "step stage1"), ("predict", "network stage1")):
            if name in times:
                size = row["atoms"], row["orbitals"], row["edges"]
                rows.append(asdict(Row(row["system"], *size, work, "DeePTB", times[name])))
    return rows


def insert(bench: Path, page: Path) -> None:
    """Replace the text between the lines `BEGIN` and `END` of `page` by that of `bench`."""
    before, after = split_page(page)
    folder = Path(os.path.relpath(bench.parent, page.parent)).as_posix()
    text = bench.read_text(encoding="utf-8")
    for name in PICTURES:
        text = text.replace(f"({name}.png)", f"({folder}/{name}.png)")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def split_page(page: Path) -> tuple[str, str]:
    """Text of a page before `BEGIN` and after `END`; `FormatError` for a page without these lines."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FormatError(f"--into {page}: expected a page with the lines {BEGIN} and {END}")
    return before, after


if __name__ == "__main__":
    typer.run(main)
