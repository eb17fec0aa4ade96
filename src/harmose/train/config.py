"""The configuration of a training: YAML with comments, overridden by `key=value` on the command line.

Unknown keys, wrong types and values without meaning raise `ConfigError` with the key and where it came from.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harmose.errors import ConfigError
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.two_stage import NetworkSettings
from harmose.train.dataset import MEMORY
from harmose.train.physics_loss import LossSettings
from harmose.train.schedule import Schedule

SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "MB": 10**6, "GB": 10**9}


def _quantity(units: Mapping[str, float], example: str):
    def parse(value: Any) -> Any:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
        if match and match[2] in units:
            return float(match[1]) * units[match[2]]
        if isinstance(value, str):
            raise ValueError(f"expected a quantity like {example}")
        return value

    return BeforeValidator(parse)


Seconds = Annotated[float, _quantity(SECONDS, "20min, 90s or 1h"), Field(gt=0)]
Bytes = Annotated[float, _quantity(BYTES, "500MB or 2GB"), Field(ge=0)]


class TrainConfig(BaseModel):
    """What `harmose train` does. `configs/water.yaml` explains every key."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    data: Path
    out: Path
    time_limit: Seconds | None = None
    clock: Literal["wall", "cpu"] = "wall"
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(gt=0)] | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    compile: bool = False
    prior: Literal["none", "H0"] = "none"
    energy_zero: Literal["labels", "fermi_of_labels", "fermi_of_prediction"] = "labels"
    regression: Literal["kernel", "pairs", "none"] = "kernel"
    sparse_points: Annotated[int, Field(ge=0)] | None = None
    overlap_filter: Annotated[float, Field(ge=0, lt=10)] = 0.0
    regression_cache: Path | None = None
    train_split: str = "train"
    train_samples: Annotated[int, Field(gt=0)] | None = None
    val_split: str = "val"
    validations: Annotated[int, Field(gt=0)] = 20
    validation_samples: Annotated[int, Field(gt=0)] = 100
    memory: Bytes = MEMORY
    save_every: Seconds = 60.0
    overwrite: bool = False
    tensorboard: bool = True
    calibrate: bool = True
    inputs: InputSettings = field(default_factory=InputSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    phases: Schedule = field(default_factory=Schedule)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The file's settings, with `dotted.key=value` on top.

    Raises `ConfigError` for a file that cannot be read or is not YAML, a key that does not exist (with the nearest one
    that does), a value of another type, and values that contradict each other.
    """
    content = _read(Path(path))
    for override in overrides:
        _override(content, override)
    _check_keys(content, TrainConfig, str(path), "")
    groups = {
        "inputs": asdict(InputSettings()),
        "loss": asdict(LossSettings()),
        "network": asdict(NetworkSettings()),
        "phases": asdict(Schedule()),
    }
    try:
        config = TrainConfig.model_validate(_merged(groups, content))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None
    _check_sense(config, str(path))
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}: the configuration cannot be read ({reason})") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: expected YAML ({getattr(error, 'problem', None) or error})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    # "data=2024" is a path and "time_limit=60" a number: pydantic decides; only what must be text stays text.
    if key in ("data", "out", "train_split", "val_split") or (key == "regression_cache" and value is not None):
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a group of keys")
    content[last] = value


def _merged(default: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """`content`, with the defaults of keys that it leaves out, also of keys within keys."""
    out = dict(default)
    for key, value in content.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merged(out[key], value) if both else value
    return out


def _check_keys(content: Any, kind: Any, where: str, prefix: str) -> None:
    """Every key must exist; `ConfigError` with the nearest one otherwise."""
    known = _fields(kind)
    if not known or not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise ConfigError(f"{where}: there is no key {prefix}{key}: {hint}")
        _check_keys(value, known[key], where, f"{prefix}{key}.")


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if is_dataclass(kind):
        return {f.name: f.type for f in fields(kind)}
    return {}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing: give it in the file or as {key}=... on the command line"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {text[0].lower() + text[1:]}, got {problem['input']!r}"


def _check_sense(config: TrainConfig, where: str) -> None:
    """Values that are possible one by one, but not together."""
    active = config.phases.active
    if config.energy_zero != "labels" and config.prior == "H0":
        raise ConfigError(
            f"{where}: expected energy_zero labels with prior H0, whose zero of energy is not the Fermi level"
        )
    if config.compile and config.loss.on_levels:
        raise ConfigError(f"{where}: expected compile false with a loss on levels, which is not compiled")
    refiner = config.network.stage2
    if config.compile and refiner.symmetry == "learned" and refiner.rotate:
        raise ConfigError(f"{where}: expected compile false with symmetry learned, which draws turns in each step")
    if config.compile and config.clock == "cpu":
        raise ConfigError(f"{where}: expected clock wall with compile, whose compilers are processes of their own")
    if config.overlap_filter and config.prior != "H0":
        raise ConfigError(f"{where}: expected prior H0 with overlap_filter, which is of corrections to it")
    if not active:
        raise ConfigError(f"{where}: all phases are switched off: expected a share, steps or epochs above 0 in one")
    for name in active:
        phase = config.phases.phase(name)
        timed = phase.steps is None and phase.epochs is None
        if timed and config.time_limit is None:
            raise ConfigError(
                f"{where}: phases.{name} has a share of the time: expected a time_limit, or steps or epochs"
            )
        for key, least in _LEAST.items():
            if (value := getattr(phase, key)) is not None and not value >= least:
                raise ConfigError(f"{where}: phases.{name}.{key}: expected at least {least}, got {value}")
        if not (phase.learning_rate > 0 and 0 <= phase.ema_decay < 1):
            raise ConfigError(f"{where}: phases.{name}: expected learning_rate above 0 and ema_decay from 0 to 1")
        if phase.clip is not None and not phase.clip > 0:
            raise ConfigError(f"{where}: phases.{name}.clip: expected a number above 0, or null, got {phase.clip}")
    for key, value in config.loss.weights.items():
        if not 0 < value < float("inf"):
            raise ConfigError(f"{where}: loss.{key}: expected a number from 0, got {value}")
    for part in (config.network.stage1, config.network.stage2):
        for f in fields(part):
            value = getattr(part, f.name)
            if type(value) is int and not value > 0:
                raise ConfigError(f"{where}: network: expected {f.name} above 0, got {value}")
    if config.network.stage2.symmetry == "exact" and not config.network.stage2.rotate:
        raise ConfigError(
            f"{where}: network.stage2.rotate: expected true with symmetry exact, which has no frames to turn"
        )


_LEAST = {"share": 0, "steps": 0, "epochs": 0, "warmup": 0, "batch_size": 1, "weight_decay": 0, "patience": 1}
