"""Fabric's launcher of local processes, with a watch that lets the first process say why a training ends.

Fabric watches the processes that it starts, too, but ends the first one without a word (SIGKILL).
"""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

PERIOD = 1.0
"""Seconds between two looks at the other processes."""
GRACE = 20.0
"""Seconds that this process has to notice by itself that another one has died, and to end in order."""


class Launcher(_SubprocessScriptLauncher):
    """Fabric's launcher. `children`: the processes that it has started, which Fabric's own watch does not see."""

    children: list[subprocess.Popen]

    def _call_children_scripts(self) -> None:
        super()._call_children_scripts()
        self.children, self.procs = self.procs, []


class Parallel(DDPStrategy):
    """Fabric's distributed data parallelism with this launcher."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher: Any = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


def environment_of(fabric: Fabric) -> ClusterEnvironment:
    """Return what Fabric knows about the processes that it starts, or that torchrun or SLURM has started."""
    assert isinstance(fabric.strategy, DDPStrategy)
    assert fabric.strategy.cluster_environment is not None
    return fabric.strategy.cluster_environment


class Watch:
    """Ends this process, with one line, when another has died and this one hangs: computes, or waits for the dead one.

    The first process of a machine watches those that it started, and they watch it. What torchrun or SLURM started, they watch.
    """

    def __init__(self, fabric: Fabric, text: str):
        self._fabric, self._text, self._parent = fabric, text, os.getppid()
        self._stopped = threading.Event()
        self._started_by_fabric = isinstance(environment_of(fabric), LightningEnvironment)
        if self._started_by_fabric:
            threading.Thread(target=self._run, daemon=True, name="watch").start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Wait for the processes that this one started."""
        end = time.monotonic() + seconds
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(end - time.monotonic(), 0.0))

    def end(self, seconds: float) -> None:
        """Wait, then end those that are left. They write no files, so that nothing is lost."""
        self.wait(seconds)
        for child in self._children:
            child.kill()
        self.wait(PERIOD)

    def speaks(self, seconds: float) -> bool:
        """Return True if this process must say that another has died: the first has, within the next seconds."""
        end = time.monotonic() + seconds
        while not self._is_orphan and time.monotonic() < end:
            time.sleep(0.1)
        return self._is_orphan and self._fabric.local_rank == 1

    @property
    def _children(self) -> list[subprocess.Popen]:
        return getattr(self._fabric.strategy.launcher, "children", [])

    @property
    def _is_orphan(self) -> bool:
        return self._started_by_fabric and self._fabric.local_rank > 0 and os.getppid() != self._parent

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            if (self._is_orphan or any(child.poll() for child in self._children)) and not self._stopped.wait(GRACE):
                self._exit()

    def _exit(self) -> None:
        if self._fabric.local_rank < 2:
            print(f"harmose: error: {self._text}", file=sys.stderr, flush=True)
        for child in self._children:
            child.kill()
        os._exit(2)
