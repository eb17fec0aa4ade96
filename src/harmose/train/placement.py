"""Where a training runs: the numbers of devices and nodes, checked against the machine and against what started the process.

Lightning Fabric knows by itself whether torchrun, SLURM or a user started this process. It trusts the configuration, though:
one that says something else would train twice in one folder, or wait forever.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only

from harmose.errors import ConfigError
from harmose.train.config import TrainConfig


class Placement(NamedTuple):
    """Processes of each node, one for each device, and nodes."""

    devices: int
    num_nodes: int


def placement(config: TrainConfig, environment: Mapping[str, str] = os.environ) -> Placement:
    """Return devices and nodes of a training.

    Raises `ConfigError` where the configuration asks for more GPUs than there are, for another number of processes than torchrun
    or SLURM started, or for several nodes that nothing connects.
    """
    started = _started(environment)
    devices = config.devices
    if devices == "auto":
        devices = started[1].devices if started else max(_n_gpus(config.accelerator) or 1, 1)
    if started is not None:
        _check_started(*started, Placement(devices, config.num_nodes))
    elif config.num_nodes > 1:
        _check_connected(config.num_nodes, environment)
    _check_gpus(devices, config.accelerator)
    return Placement(devices, config.num_nodes)


def is_first_process() -> bool:
    """Return True in the process that writes files and prints, once Fabric knows the number of this process."""
    return rank_zero_only.rank == 0


def _started(environment: Mapping[str, str]) -> tuple[str, Placement] | None:
    """Return the program that started the processes, and how many; None for a process by itself."""
    if TorchElasticEnvironment.detect():
        devices = int(environment["LOCAL_WORLD_SIZE"])
        return "torchrun", Placement(devices, int(environment["WORLD_SIZE"]) // devices)
    if SLURMEnvironment.detect():
        n_nodes = int(environment.get("SLURM_NNODES", "1"))
        return "SLURM", Placement(int(environment["SLURM_NTASKS"]) // n_nodes, n_nodes)
    return None


def _check_started(by: str, started: Placement, configured: Placement) -> None:
    for key, expected, got in zip(Placement._fields, started, configured, strict=True):
        if expected != got:
            raise ConfigError(f"{key}: expected {expected}, as {by} started, got {got}: set {key}={expected}")


def _check_connected(num_nodes: int, environment: Mapping[str, str]) -> None:
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in environment]
    if missing:
        raise ConfigError(
            f"num_nodes: expected 1 for a command started by itself, got {num_nodes}: start it by torchrun or srun on each node, "
            f"or set {', '.join(missing)} there"
        )


def _check_gpus(devices: int, accelerator: str) -> None:
    n = _n_gpus(accelerator)
    if n is not None and devices > n:
        there = f"at most {n}, the GPUs of this machine" if n else "no GPU, which this machine lacks"
        one = f"set devices={n}, or " if n else "set "
        raise ConfigError(f"devices: expected {there}, got {devices}: {one}accelerator=cpu for processes on the CPU")


def _n_gpus(accelerator: str) -> int | None:
    """Return the number of devices that an accelerator has on this machine; None for the CPU, which any number may share."""
    mps = torch.backends.mps.is_available()
    if accelerator == "mps" or (accelerator == "gpu" and mps):
        return int(mps)
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return 1 if accelerator == "auto" and mps else None
    return torch.cuda.device_count()
