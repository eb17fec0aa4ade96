"""`harmose restart`: the density matrix of a prediction or of a sample, from which another code starts its SCF."""

from pathlib import Path
from typing import Annotated

import typer

from harmose.cli.basis_option import BasisOption
from harmose.cli.options import (
    ElectronsOption,
    ForceOption,
    ReferenceOption,
    SourceArgument,
    TargetArgument,
    check_output,
    error_prefix,
    examples,
    new_app,
    new_output,
    terminal,
)
from harmose.cli.predictions import read_or_predict
from harmose.errors import ConfigError, MatrixError
from harmose.io.restarts import check_code, write_restart
from harmose.physics.states import parse_mesh

USE = {
    "cp2k": "name it PROJECT-RESTART.kp beside CP2K's input, and set SCF_GUESS RESTART",
    "siesta": "name it LABEL.DM beside SIESTA's input, and set DM.UseSaveDM true",
}

app = new_app()


@app.command(
    epilog=examples(
        "harmose restart graphene-pbe-dzvp layer.xyz --to cp2k --mesh 3x3x1 --out layer-RESTART.kp",
        "harmose restart siesta-predictions Si64 --to siesta --mesh 2x2x2 --out Si64.DM",
    )
)
def restart(
    source: SourceArgument,
    target: TargetArgument = None,
    *,
    to: Annotated[str, typer.Option("--to", metavar="cp2k|siesta", help="Code that starts from the file.")],
    out: Annotated[
        Path, typer.Option(help="New file: PROJECT-RESTART.kp for CP2K, LABEL.DM for SIESTA.", metavar="FILE")
    ],
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="3x3x1",
            help="k-points of the run that starts from the file: CP2K's MONKHORST-PACK, SIESTA's kgrid_Monkhorst_Pack.  "
            "[default: from the cell]",
        ),
    ] = None,
    shifted: Annotated[
        bool, typer.Option("--shifted", help="siesta: displacements 0.5 in kgrid_Monkhorst_Pack instead of 0.0.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Electronic temperature of the run in K.")] = 300.0,
    electrons: ElectronsOption = None,
    reference: ReferenceOption = None,
    basis: BasisOption = None,
    force: ForceOption = False,
) -> None:
    """Write the density matrix of a prediction, or of a stored H, from which CP2K or SIESTA starts its SCF.

    The run must have the same atoms in the same order and the same basis set. S is computed or read as by `harmose predict`;
    --reference gives S as well. `harmose scf` is for PySCF.
    """
    check_code(to)
    if shifted and to != "siesta":
        raise ConfigError(f"--shifted: expected --to siesta, got --to {to}")
    check_output(out, force)
    size = None if mesh is None else parse_mesh(mesh)
    console = terminal()
    comparison = read_or_predict(source, target, reference, console, basis)
    sample = comparison.sample
    electrons = comparison.n_electrons if electrons is None else electrons
    with error_prefix(sample.name):
        if electrons is None:
            raise MatrixError("the number of electrons is not known; give --electrons")
        with new_output(out, force) as hidden:
            write_restart(hidden, sample, to, size, temperature, electrons, shifted)  # type: ignore[arg-type]
    console.print(f"{out}: {USE[to]}", markup=False, soft_wrap=True)
