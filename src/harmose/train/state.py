"""What must be kept to go on with a training as if it had never stopped: numbers in one safetensors file, no pickle."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from harmose.errors import FormatError
from harmose.inference.checkpoint import write_tensors
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.state import from_state, to_state
from harmose.representation.block_irreps import BlockIrreps, Coefficients

STATE, REGRESSION = "state.safetensors", "regression.safetensors"


@dataclass
class TrainerState:
    """Where a training is: everything that counts. `seconds` are of all its runs, without the preparation of a resumed one."""

    phase: int = 0
    """Number among the schedule's active phases."""
    step: int = 0
    phase_step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    seconds: float = 0.0
    phase_start: float = 0.0
    """`seconds` at which the phase began."""
    phase_seconds: float | None = None
    """How long the phase may take."""
    validations: int = 0
    """In this phase."""
    validated: int = -1
    """The step after which the last one was."""
    validating: float = 0.0
    """Seconds that they took."""
    before: list[float] = field(default_factory=list)
    """Errors in eV of each validation sample when the phase began."""
    best: float = float("inf")
    """Lowest MAE of this phase in eV, of weights that are better than those it began with."""
    since_best: int = 0
    ended: bool = False
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last row of the log."""


@dataclass(frozen=True)
class Checkpoint:
    """The things whose numbers change while training. `optimizer` holds the parameters of the phase, in order; `best` are
    the averaged weights that validated best in it."""

    network: nn.Module
    average: nn.Module
    best: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


def write_state(path: Path, parts: Checkpoint, position: TrainerState) -> None:
    """All of it in one file, whole or not at all."""
    tensors = {f"network.{k}": v for k, v in parts.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in parts.average.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in parts.best.state_dict().items()}
    tensors |= {"generator": parts.generator.get_state()}
    for k, parameter in enumerate(_parameters(parts.optimizer)):
        for name, value in parts.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{k}.{name}"] = value
    write_tensors(path / STATE, tensors, {"position": json.dumps(asdict(position))})


def read_position(path: Path) -> TrainerState:
    """Where an unfinished training stopped; `FormatError` for a damaged file."""
    try:
        with safe_open(path / STATE, "pt") as file:
            content = json.loads((file.metadata() or {})["position"])
        return TrainerState(**{f.name: content[f.name] for f in fields(TrainerState)})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path / STATE}: expected the state of a training, got a damaged file ({error})") from None


def write_regression(file: Path, regression: KernelRegression, unseen: Coefficients) -> None:
    """The baseline, which does not change while the network trains, and its predictions of samples it has not seen."""
    tensors = {f"regression.{k}": v for k, v in to_state(regression).items()}
    tensors |= {f"pairs.{a}_{b}": x for (a, b), x in unseen.pairs.items()}
    tensors |= {f"onsite.{s}": x for s, x in unseen.onsite.items()}
    write_tensors(file, tensors)


def read_regression(file: Path, space: BlockIrreps) -> tuple[KernelRegression, Coefficients]:
    """What `write_regression` wrote."""
    tensors = _tensors(file)
    try:
        unseen = Coefficients(
            {(a, b): tensors[f"pairs.{a}_{b}"] for a, b in space.groups},
            {s: tensors[f"onsite.{s}"] for s in range(len(space.shell_types))},
        )
    except KeyError as error:
        raise FormatError(f"{file}: expected the state of a training, got none of {error}") from None
    prefix = "regression."
    return from_state(space, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}), unseen


def remove_state(path: Path) -> None:
    """What is of no use once the model is there."""
    for name in (STATE, REGRESSION):
        (path / name).unlink(missing_ok=True)


def read_networks(path: Path, network: nn.Module, average: nn.Module, best: nn.Module) -> None:
    """Weights and statistics of the network, of its average, and of the best of them."""
    tensors = _tensors(path / STATE)
    for module, prefix in ((network, "network."), (average, "average."), (best, "best.")):
        _fill(path, module, tensors, prefix)


def read_rest(path: Path, parts: Checkpoint) -> None:
    """Moments of the optimizer, and the generator's state."""
    tensors = _tensors(path / STATE)
    for k, parameter in enumerate(_parameters(parts.optimizer)):
        prefix = f"optimizer.{k}."
        found = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        if found:
            # clone: AdamW works on memory of its own, aligned as that of a run that never stopped
            parts.optimizer.state[parameter] = {n: v.clone().to(parameter.device) for n, v in found.items()}
    if "generator" not in tensors:
        raise FormatError(f"{path / STATE}: the state lacks that of the random numbers")
    parts.generator.set_state(tensors["generator"])


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path}: expected the state of a training, got a damaged file ({error})") from None


def _fill(path: Path, module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    try:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    except RuntimeError:
        raise FormatError(f"{path / STATE}: the state belongs to another network") from None


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]
