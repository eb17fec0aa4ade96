"""Table of the commands, and the group that imports the module of a command when the command is run."""

import time
from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "demo": "Run DFT, train both stages, print tables, predict, and write a report: minutes on two cores.",
    "label": "Run DFT (PySCF, CP2K) on structures and store the Hamiltonians.",
    "convert": "Convert DFT outputs or published data sets to a sample store, or a store to another format.",
    "train": "Train a model. The same command continues a training that was stopped.",
    "evaluate": "Print the errors of a model on a store: of the regression, with stage 1, and with stage 2 "
    "(docs/metrics.md).",
    "predict": "Predict the Hamiltonian of one structure, or of many into a store.",
    "calibrate": "Fit the error bounds of a trained model to held-out samples. `harmose train` does this at its end.",
    "rank": "Order structures by the error that the model expects, largest first: candidates for the next labels.",
    "orbitals": "Print orbital energies and gap of a predicted or stored molecule, compared with DFT if a reference is "
    "given.",
    "bands": "Print and draw bands along a path, with Fermi level and gap; with errors and ghost states if a reference "
    "is given.",
    "dos": "Print and draw the density of states, in states per eV and cell.",
    "scf": "Converge PySCF from its own guesses and from the prediction, and print the cycles and the time that the "
    "prediction saves.",
    "restart": "Write the density matrix of a prediction, or of a stored H, from which CP2K or SIESTA starts its SCF.",
    "bench": "Time training steps, predictions and their parts, loading and start-up; measure memory; write tables and "
    "figures.",
    "version": "Print the versions of harmose and of the packages that decide its numbers and speed.",
    "data": "List, check, split and merge sample stores.",
}
"""First paragraph of the help of each command. The command NAME is the `app` of the module harmose.cli.NAME."""


def load_command(name: str) -> Any:
    """Import the module of a command and return its click command or group."""
    command = typer.main.get_command(import_module(f"harmose.cli.{name}").app)
    command.name = name
    return command


class Commands(UserDict[str, Any]):
    """The click commands by name; reading one imports its module."""

    def __getitem__(self, name: str) -> Any:
        """Return the command `name`."""
        return load_command(name)


class LazyCommand(TyperCommand):
    """Name and short help of a command, whose module is imported when its arguments are parsed."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Return the context of the imported command, which then runs in place of this one."""
        assert self.name is not None
        return load_command(self.name).make_context(*arguments, **settings)


class LazyGroup(TyperGroup):
    """The command `harmose`: its help comes from the table, and only the module of the command that runs is imported.

    The context's `obj` is the time in seconds (monotonic clock) before that import.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command that is not imported yet; None if there is none of this name."""
        return LazyCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def invoke(self, ctx: Any) -> Any:
        """Note the time, then run the command of the context."""
        ctx.obj = time.monotonic()
        return super().invoke(ctx)
