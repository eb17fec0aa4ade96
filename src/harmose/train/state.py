"""The folder of a training: the state to resume from as if it had never stopped, and the check of what lies there."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from harmose.errors import ConfigError, FormatError
from harmose.inference.checkpoint import CARD, write_tensors
from harmose.train.config import TrainConfig
from harmose.train.fit import FILE as FIT
from harmose.train.schedule import PHASES

STATE, SETTINGS = "state.safetensors", "config.json"
DATA = "data.digest"
"""File with a digest of what an unfinished training learns."""

FREE_KEYS = {
    "out",
    "basis",
    "time_limit",
    "threads",
    "overwrite",
    "tensorboard",
    "save_every",
    "memory",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "compile",
    "regression_cache",
}
"""Keys that a resumed run may change."""

NEW_KEYS: dict[str, Any] = {"precision": "32-true"}
NEW_KEYS |= {
    f"phases.{name}.{key}": value for name in PHASES for key, value in (("batch_pairs", None), ("accumulate", 1))
}
"""Keys that trainings of earlier versions lack, with the values that they had without saying so."""


@dataclass
class TrainerState:
    """Progress of a training.

    Attributes:
        phase: number among the schedule's active phases.
        step: steps of all phases; `phase_step`: of this one.
        epoch, epoch_step: position in the random order of the samples.
        seconds: time of all runs, without the preparation of a resumed one.
        phase_start: `seconds` at which the phase began; `phase_seconds`: how long it may take.
        validations: number in this phase; `validated`: step of the last one; `validating`: seconds that they took.
        before: errors in eV of each validation sample when the phase began.
        best: lowest MAE of this phase in eV, of weights that are better than those it began with.
        since_best: validations since then; `ended`: True when patience is over.
        losses: losses of the steps since the last row of the log.
    """

    phase: int = 0
    step: int = 0
    phase_step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    seconds: float = 0.0
    phase_start: float = 0.0
    phase_seconds: float | None = None
    validations: int = 0
    validated: int = -1
    validating: float = 0.0
    before: list[float] = field(default_factory=list)
    best: float = float("inf")
    since_best: int = 0
    ended: bool = False
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """Objects whose numbers change during training. `average`: moving average of the weights; `best`: the averages that
    validated best in the phase."""

    network: nn.Module
    average: nn.Module
    best: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


def fixed_settings(config: TrainConfig) -> str:
    """Return the settings that a resumed run must share with its beginning, as JSON."""
    return config.model_dump_json(exclude=FREE_KEYS)


def open_folder(config: TrainConfig) -> TrainerState | None:
    """Make the folder `out` ready and return the state to start from; None when a finished training is there."""
    out = config.out
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: expected a folder, {out} is a file")
    here = {p.name for p in out.iterdir()} if out.exists() else set()
    if (here and SETTINGS not in here) or (CARD in here and SETTINGS not in here):
        raise ConfigError(f"out: expected a new or empty folder or a training's, {out} holds something else")
    if config.overwrite:
        for name in (STATE, CARD):
            (out / name).unlink(missing_ok=True)
    elif CARD in here or STATE in here:
        _check_same(config, (out / SETTINGS).read_text(encoding="utf-8"))
        return read_trainer_state(out) if CARD not in here else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SETTINGS).write_text(fixed_settings(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be written ({error.strerror})") from None
    return TrainerState()


def write_state(path: Path, parts: Checkpoint, state: TrainerState, generators: Sequence[Tensor] = ()) -> None:
    """Write everything into one file, whole or not at all. `generators`: states of the random numbers of all processes."""
    tensors = {f"network.{k}": v for k, v in parts.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in parts.average.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in parts.best.state_dict().items()}
    generators = generators or [parts.generator.get_state()]
    tensors |= {generator_key(rank): value for rank, value in enumerate(generators)}
    for k, parameter in enumerate(_parameters(parts.optimizer)):
        for name, value in parts.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{k}.{name}"] = value
    write_tensors(path / STATE, tensors, {"state": json.dumps(asdict(state))})


def read_trainer_state(path: Path) -> TrainerState:
    """Read where an unfinished training stopped; `FormatError` for a damaged file."""
    try:
        with safe_open(path / STATE, "pt") as file:
            content = json.loads((file.metadata() or {})["state"])
        return TrainerState(**{f.name: content[f.name] for f in fields(TrainerState)})
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path / STATE}: expected the state of a training, got a damaged file ({error})") from None


def remove_state(path: Path) -> None:
    """Remove what is of no use once the model is there."""
    for name in (STATE, FIT, DATA):
        (path / name).unlink(missing_ok=True)


def read_networks(path: Path, network: nn.Module, average: nn.Module, best: nn.Module) -> None:
    """Fill the network, its average and the best average from the state."""
    tensors = _tensors(path / STATE)
    for module, prefix in ((network, "network."), (average, "average."), (best, "best.")):
        _fill(path, module, tensors, prefix)


def generator_key(rank: int) -> str:
    """Return the name of the random numbers of a process in the state."""
    return f"generator.{rank}" if rank else "generator"


def read_optimizer(path: Path, parts: Checkpoint, rank: int = 0) -> None:
    """Fill the moments of the optimizer and the state of the random generator of a process.

    A process that the state does not know, since there were fewer, keeps its generator as it is.
    """
    tensors = _tensors(path / STATE)
    for k, parameter in enumerate(_parameters(parts.optimizer)):
        prefix = f"optimizer.{k}."
        moments = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        if moments:
            # clone: AdamW works on memory of its own, aligned as that of a run that never stopped
            parts.optimizer.state[parameter] = {n: v.clone().to(parameter.device) for n, v in moments.items()}
    if "generator" not in tensors:
        raise FormatError(f"{path / STATE}: the state lacks that of the random numbers")
    if (key := generator_key(rank)) in tensors:
        parts.generator.set_state(tensors[key])


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


def _check_same(config: TrainConfig, before: str) -> None:
    try:
        old, new = _flat(json.loads(before)), _flat(json.loads(fixed_settings(config)))
        new = {key: value for key, value in new.items() if key in old or value != NEW_KEYS.get(key, ...)}
    except (ValueError, AttributeError):
        raise FormatError(f"{config.out / SETTINGS}: expected the settings of a training, got a damaged file") from None
    if old.keys() != new.keys():
        raise ConfigError(
            f"out: {config.out} holds a training of another version of harmose: choose another folder, or overwrite=true"
        )
    for key in sorted(old):
        if old[key] != new[key]:
            raise ConfigError(
                f"out: {config.out} holds a training with {key} = {old[key]}, this one has {new[key]}: "
                "choose another folder, or overwrite=true"
            )


def _flat(content: dict, prefix: str = "") -> dict:
    out = {}
    for key, value in content.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
