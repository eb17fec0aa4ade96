"""A training from its configuration to the model: `train(config, console)`."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from harmose.data.store import Store
from harmose.inference.checkpoint import save
from harmose.nn.two_stage import TwoStage
from harmose.train.checks import check, training_names
from harmose.train.config import TrainConfig
from harmose.train.finish import finished_model
from harmose.train.log import Log, SilentLog
from harmose.train.prepare import TrainingData, prepare
from harmose.train.processes import Processes, processes_of
from harmose.train.schedule import StopRequest
from harmose.train.start import Start, check_start, load_start
from harmose.train.state import TrainerState, open_folder, remove_state
from harmose.train.trainer import Trainer

Clock = Callable[[], float]
"""Returns a time in seconds."""
CLOCKS: dict[str, Clock] = {"wall": time.monotonic, "cpu": time.process_time}


def train(
    config: TrainConfig, console: Console | None = None, begin: float | None = None, clock: Clock | None = None
) -> Path:
    """Train as configured and return the folder of the model; an unfinished training found there is resumed.

    The training ends within `time_limit`, all work since `begin` included (a time of `clock`; default: now). `clock` is by
    default that of the configuration: wall time, or processor time of this process. With a cached regression the limit begins
    after its fit. Without active phases the model is the regression alone. SIGINT and SIGTERM end the training after the step
    in flight, to be resumed, with `KeyboardInterrupt`.

    With several devices this function runs in one process for each. Fabric starts them by running the command, or the script that
    calls this function, once more for each; the first writes all files. They end together, whichever gets a signal or dies.

    Raises `ConfigError` when `out` holds something else, or the training of another configuration; `ModelError` when the loss
    stays NaN; errors of the data, which name the sample.
    """
    console = console or Console(quiet=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if clock is None:
        clock, begin = CLOCKS[config.clock], 0.0 if begin is not None and config.clock == "cpu" else begin
    with Store.open(config.data) as store:
        check(store, config)
        start = load_start(config)
        if start is not None:
            check_start(start, store)
        with processes_of(config, clock) as processes:
            begin = processes.first(lambda: clock() if begin is None else begin)
            _train(config, store, console, processes, begin, start)
    return config.out


def _train(
    config: TrainConfig, store: Store, console: Console, processes: Processes, begin: float, start: Start | None
) -> None:
    state = processes.first(lambda: open_folder(config))
    if state is None:
        if processes.is_first:
            console.print(f"{config.out}: already trained with this configuration", markup=False, soft_wrap=True)
        return
    with _log(config, store, console, state, processes) as log:
        data = _prepared(config, store, log, state, processes, start)
        if not _trains_network(config, start, log):
            processes.first(lambda: _finish(config, store, data, None, log, start))
            return
        trainer = Trainer(config, store, data, log, state, processes, begin, start)
        with StopRequest() as trainer.stop:
            trainer.run()
            processes.first(lambda: _finish(config, store, data, trainer.average, log, start))
            trainer.say_end()


def _log(config: TrainConfig, store: Store, console: Console, state: TrainerState, processes: Processes) -> Log:
    unit = "meV" if store[training_names(store, config)[0]].structure.pbc.any() else "uEh"
    if processes.is_first:
        return Log(config.out, console, state.step, config.tensorboard, unit)
    return SilentLog(unit)


def _prepared(
    config: TrainConfig, store: Store, log: Log, state: TrainerState, processes: Processes, start: Start | None
) -> TrainingData:
    """Return the data: the first process fits the regression, the others then read what it has written."""
    data: list[TrainingData] = []
    processes.first(lambda: data.append(prepare(config, store, log, state.step > 0, start)))
    return data[0] if data else prepare(config, store, log, True, start)


def _finish(
    config: TrainConfig, store: Store, data: TrainingData, network: TwoStage | None, log: Log, start: Start | None
) -> None:
    """Calibrate and save the model, and say how large its errors are."""
    save(finished_model(config, store, data, network, log, start), config.out)
    remove_state(config.out)


def _trains_network(config: TrainConfig, start: Start | None, log: Log) -> bool:
    """Return True if there are phases, and a network to train: a model without one stays without."""
    if config.phases.active and start is not None and start.model.network is None:
        log.say(f"{start.name} has no network: its regression is corrected, and the phases are left out")
        return False
    return bool(config.phases.active)
