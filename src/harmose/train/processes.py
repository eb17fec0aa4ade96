"""The processes of a training, one for each device. Lightning Fabric starts them, or finds those of torchrun and SLURM.

All processes make the same decisions: what depends on a clock or a signal is agreed upon (`Processes.agree`), and what is
written to disk is written by the first. One process alone works as if this module were not there.
"""

import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harmose.errors import ConfigError, HarmoseError
from harmose.train.config import TrainConfig
from harmose.train.launcher import Parallel, Watch, environment_of
from harmose.train.placement import is_first_process, placement

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""Longest wait for the first process, which may fit a regression for hours. A process that has died is noticed at once."""
REPEATED = 5.0
"""Seconds in which the first process ends the others, before they repeat an error that all have."""
LAST_STEPS = 30.0
"""Seconds that other processes have to end by themselves."""


class LostProcess(HarmoseError):
    """A process of a training has died, and the others cannot go on without it."""


LOST = "a process of this training has died; the same command goes on from the state that was saved last"


class Processes:
    """The processes of a training as each of them sees them: `rank` (from 0) of `size`.

    `now()`: seconds of the clock of the first process, on all of them: for several, at the last `agree`.
    """

    def __init__(self, fabric: Fabric, clock: Callable[[], float]):
        self.fabric, self.clock = fabric, clock
        self.rank, self.size = fabric.global_rank, fabric.world_size
        # For decisions and waiting, beside the group for gradients: on the CPU, and patient.
        self.group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None
        self._time = 0.0
        self.agree(False)

    @property
    def is_first(self) -> bool:
        """True for the process that writes files and speaks."""
        return self.rank == 0

    def now(self) -> float:
        """Return the time of the first process in seconds."""
        return self.clock() if self.size == 1 else self._time

    def agree(self, stop: bool) -> bool:
        """Read the clock, and return True if any process wants to stop. All must call it."""
        if self.size == 1:
            return stop
        mine = torch.tensor([self.clock() if self.is_first else -np.inf, float(stop)], dtype=torch.float64)
        dist.all_reduce(mine, dist.ReduceOp.MAX, group=self.group)
        self._time = float(mine[0])
        return bool(mine[1])

    def first(self, work: Callable[[], T]) -> T:
        """Return the result of `work()`, which the first process does while the others wait; if it fails, they end."""
        if self.size == 1:
            return work()
        if not self.is_first:
            done, result = self._sent(None)
            if not done:
                raise SystemExit(0)  # the first process says why
            return result
        try:
            result = work()
        except BaseException:
            with suppress(RuntimeError):
                self._sent((False, None))
            raise
        return self._sent((True, result))[1]

    def interleaved(self, mine: np.ndarray, n: int) -> np.ndarray:
        """Join numbers of which the process r has those at r, r + size, ... (n,)."""
        if self.size == 1:
            return mine
        rows = torch.full((-(-n // self.size),), torch.nan, dtype=torch.float64)
        rows[: len(mine)] = torch.as_tensor(mine)
        columns = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(columns, rows, group=self.group)
        return torch.stack(columns, 1).flatten()[:n].numpy()

    def gathered(self, state: Tensor) -> list[Tensor]:
        """Return a small tensor of each process, such as the states of their random numbers, all of one size."""
        if self.size == 1:
            return [state]
        out = [torch.empty_like(state) for _ in range(self.size)]
        dist.all_gather(out, state, group=self.group)
        return out

    def unify(self, module: nn.Module) -> None:
        """Give the numbers of the first process's module to all."""
        if self.size > 1:
            for x in module.state_dict().values():
                sent = x.cpu().contiguous()
                dist.broadcast(sent, 0, group=self.group)
                x.copy_(sent)

    def _sent(self, result: Any) -> Any:
        content = [result]
        dist.broadcast_object_list(content, 0, group=self.group)
        return content[0]


@contextmanager
def processes_of(config: TrainConfig, clock: Callable[[], float]) -> Iterator[Processes]:
    """Start the processes of a training, or join them. All run the block; an error or a signal ends all of them.

    Raises `ConfigError` for devices that are not there, and `LostProcess` when another process has died.
    """
    try:
        fabric = _fabric(config)
    except ConfigError:
        if not is_first_process():
            time.sleep(REPEATED)  # until torchrun ends this process
        raise
    if fabric.world_size == 1:
        with _matmul(config.precision):
            yield Processes(fabric, clock)
        return
    before = {
        name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
    }
    is_launcher = not environment_of(fabric).creates_processes_externally
    watch = Watch(fabric, LOST)
    try:
        with _quiet():
            fabric.launch()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        with _matmul(config.precision):
            yield Processes(fabric, clock)
    except BaseException as error:
        _end_badly(fabric, watch, error)
    else:
        watch.stop()
        watch.wait(LAST_STEPS)
    finally:
        watch.stop()
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()
        if is_launcher:  # so that this process can train again
            _restore(before)


def _end_badly(fabric: Fabric, watch: Watch, error: BaseException) -> None:
    """Raise the error in the first process, which then ends the others; they end in silence, unless the error is their own."""
    lost = _is_lost(error)
    stopped = isinstance(error, KeyboardInterrupt)
    if fabric.global_rank == 0:
        watch.stop()
        watch.end(LAST_STEPS if stopped else 0.0)
        if lost:
            raise LostProcess(LOST) from None
        raise error
    if stopped or isinstance(error, SystemExit):
        raise SystemExit(0) from None
    if lost:
        watch.stop()
        raise (LostProcess(LOST) if watch.speaks(REPEATED) else SystemExit(2)) from None
    time.sleep(REPEATED)
    raise error


def _is_lost(error: BaseException) -> bool:
    """Return True for the errors of communication by which the death of another process shows."""
    words = ("gloo", "nccl", "connection", "broken pipe", "peer")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def _fabric(config: TrainConfig) -> Fabric:
    devices, num_nodes = placement(config)
    if devices * num_nodes == 1:
        fabric = Fabric(accelerator=config.accelerator, devices=1)
    else:
        fabric = _parallel(config, devices, num_nodes)
    if config.precision == "tf32" and fabric.device.type != "cuda":
        raise ConfigError(f"precision: expected 32-true on {fabric.device.type}, got tf32, which GPUs have")
    return fabric


def _parallel(config: TrainConfig, devices: int, num_nodes: int) -> Fabric:
    # A batch may lack a pair of elements, whose parameters then have no gradient. Buffers never change in a phase.
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # PyTorch below 2.13
    settings: dict[str, Any] = {"find_unused_parameters": config.strategy != "ddp", buffers: False}
    strategy = Parallel(**settings)
    try:
        return Fabric(accelerator=config.accelerator, strategy=strategy, devices=devices, num_nodes=num_nodes)
    except (RuntimeError, ValueError) as error:  # such as a notebook, in which no processes can be started
        raise ConfigError(f"devices: {devices} processes cannot be started here ({error})") from None


@contextmanager
def _matmul(precision: str) -> Iterator[None]:
    """Run the block with matrix products in TF32 where that is the precision."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Run the block without Fabric's lines about the processes that it starts."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _restore(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
