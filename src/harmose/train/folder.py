"""The folder of a training: whether to begin there, to go on, or to refuse."""

import json

from harmose.errors import ConfigError
from harmose.inference.checkpoint import CARD
from harmose.train.config import TrainConfig
from harmose.train.state import STATE, TrainerState, read_position

SETTINGS = "config.json"

FREE = {
    "out",
    "time_limit",
    "threads",
    "overwrite",
    "tensorboard",
    "save_every",
    "memory",
    "accelerator",
    "compile",
    "regression_cache",
}
"""Keys that a resumed run may change."""


def fixed_settings(config: TrainConfig) -> str:
    """What a resumed run must have in common with its beginning, as JSON."""
    return config.model_dump_json(exclude=FREE)


def open_folder(config: TrainConfig) -> TrainerState | None:
    """Where to begin, with `out` made ready; None when there is a finished training of this configuration."""
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
        return read_position(out) if CARD not in here else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SETTINGS).write_text(fixed_settings(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be written ({error.strerror})") from None
    return TrainerState()


def _check_same(config: TrainConfig, before: str) -> None:
    old, new = _flat(json.loads(before)), _flat(json.loads(fixed_settings(config)))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise ConfigError(
                f"out: {config.out} holds a training with {key} = {old.get(key)}, this one has {new.get(key)}: "
                "choose another folder, or overwrite=true"
            )


def _flat(content: dict, prefix: str = "") -> dict:
    out = {}
    for key, value in content.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
