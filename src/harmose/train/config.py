"""The configuration of a training: YAML with comments, overridden by `key=value` on the command line.

Unknown keys, wrong types and values without meaning raise `ConfigError` with the key and where it came from.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harmose.errors import ConfigError
from harmose.inference.card import Card, EnergyZero, RegressionKind
from harmose.inference.checkpoint import read_card
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.two_stage import NetworkSettings
from harmose.train.dataset import MEMORY
from harmose.train.physics_loss import LossSettings
from harmose.train.schedule import Schedule

SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "MB": 10**6, "GB": 10**9}

SIZES: Mapping[str, Mapping[str, Any]] = {
    "small": {
        "network": {
            "stage1": {
                "channels": 8,
                "pseudo_channels": 4,
                "scalars": 32,
                "so2_channels": 16,
                "hidden": 32,
                "layers": 1,
            },
            "stage2": {"channels": 8, "pseudo_channels": 4, "scalars": 32, "so2_channels": 16, "hidden": 64},
        },
        "phases": {name: {"learning_rate": 1e-3} for name in ("stage1", "stage2", "joint")},
    },
    "medium": {
        "network": {
            "stage1": {
                "channels": 16,
                "pseudo_channels": 8,
                "scalars": 64,
                "so2_channels": 32,
                "hidden": 64,
                "layers": 2,
            },
            "stage2": {"channels": 16, "pseudo_channels": 8, "scalars": 64, "so2_channels": 32, "hidden": 256},
        },
        "phases": {
            "stage1": {"learning_rate": 4e-3},
            "stage2": {"learning_rate": 2e-3},
            "joint": {"learning_rate": 1e-3},
        },
    },
    "large": {
        "network": {
            "stage1": {
                "channels": 32,
                "pseudo_channels": 16,
                "scalars": 128,
                "so2_channels": 64,
                "hidden": 128,
                "layers": 3,
            },
            "stage2": {
                "channels": 32,
                "pseudo_channels": 16,
                "scalars": 128,
                "so2_channels": 64,
                "hidden": 256,
                "attention_rounds": 2,
            },
        },
        "phases": {
            "stage1": {"learning_rate": 2e-3},
            "stage2": {"learning_rate": 1e-3},
            "joint": {"learning_rate": 5e-4},
        },
    },
}
"""Widths, depth and learning rates of the network by `size`, in place of those of the file (docs/results.md)."""

OLD_KEYS = {
    "gauge": "energy_zero (labels, fermi_of_labels, fermi_of_prediction)",
    "many_body": "regression (kernel, pairs, none)",
    "references": "sparse_points",
    "closed_form": "regression_cache",
    "shrinkage": "overlap_filter",
    "model": "network",
    "encoder": "stage1",
    "refiner": "stage2",
    "unnatural_channels": "pseudo_channels",
    "doublets": "so2_channels",
    "blocks": "layers",
    "layers": "mlp_layers",
}
"""Keys of older versions, and what they are called now."""


def _quantity(units: Mapping[str, float], example: str):
    def parse(value: Any) -> Any:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
        if match and match[2] in units:
            return float(match[1]) * units[match[2]]
        if isinstance(value, str):
            raise ValueError(f"expected a quantity like {example}")
        return value

    return BeforeValidator(parse)


def _text(value: Any, expected: str) -> str:
    """Return a text or a number, such as a folder 2024, as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise ValueError(f"expected {expected}")
    return str(value)


Seconds = Annotated[float, _quantity(SECONDS, "20min, 90s or 1h"), Field(gt=0)]
Bytes = Annotated[float, _quantity(BYTES, "500MB or 2GB"), Field(ge=0)]
Text = Annotated[str, BeforeValidator(lambda value: _text(value, "a name"))]
Folder = Annotated[Path, BeforeValidator(lambda value: Path(_text(value, "a path")))]
InitRegression = Literal["correct", "keep", "refit"]
"""Fate of the regression of the model that a training starts from."""
Files = Annotated[
    tuple[Folder, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))
]


class TrainConfig(BaseModel):
    """Configuration of `harmose train`. `configs/water.yaml` explains every key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    data: Folder
    out: Folder
    init: Text | None = None
    init_regression: InitRegression | None = None
    basis: Files = ()
    time_limit: Seconds | None = None
    clock: Literal["wall", "cpu"] = "wall"
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(gt=0)] | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: Annotated[int, Field(gt=0)] | Literal["auto"] = 1
    num_nodes: Annotated[int, Field(gt=0)] = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    precision: Literal["32-true", "tf32"] = "32-true"
    compile: bool = False
    prior: Literal["none", "H0"] = "none"
    energy_zero: EnergyZero = "labels"
    regression: RegressionKind = "kernel"
    sparse_points: Annotated[int, Field(ge=0)] | None = None
    regression_cache: Folder | None = None
    overlap_filter: Annotated[float, Field(ge=0, lt=10)] = 0.0
    train_split: Text = "train"
    train_samples: Annotated[int, Field(gt=0)] | None = None
    val_split: Text = "val"
    validations: Annotated[int, Field(gt=0)] = 20
    validation_samples: Annotated[int, Field(gt=0)] = 100
    memory: Bytes = MEMORY
    save_every: Seconds = 60.0
    overwrite: bool = False
    tensorboard: bool = True
    calibrate: bool = True
    inputs: InputSettings = Field(default_factory=InputSettings)
    loss: LossSettings = Field(default_factory=LossSettings)
    size: Literal["small", "medium", "large"] | None = None
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    phases: Schedule = Field(default_factory=Schedule)

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        """Refuse values that are possible one by one, but not together."""
        if self.energy_zero != "labels" and self.prior == "H0":
            raise ValueError("expected energy_zero labels with prior H0, which has no Fermi level of its own")
        if self.overlap_filter and self.prior != "H0":
            raise ValueError("expected prior H0 with overlap_filter, which filters corrections to H0")
        if self.init is None and self.init_regression is not None:
            raise ValueError("expected init, the model to start from, with init_regression")
        if self.compile:
            self._check_compile()
        if self.regression == "none" and not self.phases.active:
            raise ValueError(
                "all phases are switched off and there is no regression: expected a share, steps or epochs above 0 in one phase"
            )
        for name in self.phases.active:
            phase = self.phases.phase(name)
            if phase.steps is None and phase.epochs is None and self.time_limit is None:
                raise ValueError(f"phases.{name} has a share of the time: expected a time_limit, or steps or epochs")
        return self

    def _check_compile(self) -> None:
        stage2 = self.network.stage2
        if self.loss.needs_orbitals:
            raise ValueError("expected compile false with a loss on orbitals, which is not compiled")
        if stage2.symmetry == "learned" and stage2.rotate:
            raise ValueError("expected compile false with symmetry learned, which draws rotations in each step")
        if self.devices != 1 or self.num_nodes != 1:
            raise ValueError("expected compile false with several devices")
        if self.clock == "cpu":
            raise ValueError("expected clock wall with compile, whose compilers are processes of their own")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file, with `dotted.key=value` on top.

    `size` replaces widths, depth and learning rates of the file, and keys of the command line replace them. With `init`, keys that
    are left out and decide what the model is are taken from the model to start from.

    Raises `ConfigError` for a file that cannot be read or is not YAML, a key that does not exist (with the nearest one, or
    its new name), a value of another type, and values that contradict each other.
    """
    content, own = _read(Path(path)), {}
    for override in overrides:
        _override(own, override)
    size = own.get("size", content.get("size"))
    if isinstance(size, str) and size in SIZES:
        groups = {key: value for key, value in SIZES[size].items() if isinstance(content.get(key, {}), Mapping)}
        content = _merged(content, groups)
    for override in overrides:
        _override(content, override)
    if isinstance(init := content.get("init"), str | int | float):
        content = _merged(card_keys(read_card(str(init))), content)
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def card_keys(card: Card) -> dict[str, Any]:
    """Return the keys of a configuration that a model's card decides, with its values."""
    keys = {
        "prior": "H0" if card.needs_prior else "none",
        "energy_zero": card.energy_zero,
        "regression": card.regression,
        "overlap_filter": card.overlap_filter,
        "inputs": asdict(card.inputs),
    }
    return keys if card.network is None else keys | {"network": asdict(card.network)}


def _merged(defaults: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with defaults for keys that it lacks, at any depth."""
    out = {**defaults, **content}
    for key, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(content.get(key), Mapping):
            out[key] = _merged(value, content[key])
    return out


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
    return {str(key): value for key, value in content.items()}


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a group of keys")
    content[last] = value


def _first_problem(error: ValidationError) -> str:
    """One line about the first problem; unknown keys before others, since they explain them."""
    problems = error.errors()
    unknown = [p for p in problems if p["type"] in ("extra_forbidden", "unexpected_keyword_argument")]
    problem = (unknown or problems)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if unknown:
        return _unknown_key(key, _keys(TrainConfig, problem["loc"][:-1]))
    if problem["type"] == "missing":
        return f"{key} is missing: give it in the file or as {key}=... on the command line"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {text[0].lower() + text[1:]}, got {problem['input']!r}" if key else text


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    prefix, _, last = key.rpartition(".")
    if last in OLD_KEYS and (last != "layers" or prefix == "network.stage2"):
        return f"there is no key {key}: it is called {OLD_KEYS[last]} now"
    near = difflib.get_close_matches(last, keys, n=1)
    dot = f"{prefix}." if prefix else ""
    hint = f"did you mean {dot}{near[0]}?" if near else f"expected one of {', '.join(keys)}"
    return f"there is no key {key}: {hint}"


def _keys(kind: Any, path: Sequence[Any]) -> list[str]:
    """Names of the keys of the group at `path`."""
    if is_dataclass(kind):
        table = {f.name: f.type for f in fields(kind)}
    else:
        table = {name: info.annotation for name, info in kind.model_fields.items()}
    return _keys(table[path[0]], path[1:]) if path else list(table)
