"""The state to resume from: everything that is written is read, damaged files are named."""

import pytest
import torch
from torch import nn

from harmose.errors import ConfigError, FormatError
from harmose.train.state import (
    STATE,
    Checkpoint,
    TrainerState,
    open_folder,
    read_networks,
    read_optimizer,
    read_trainer_state,
    remove_state,
    write_state,
)


def checkpoint(seed: int) -> Checkpoint:
    """Three small networks, an optimizer that has made a step, and a generator."""
    torch.manual_seed(seed)
    network, average, best = (nn.Linear(3, 2) for _ in range(3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(network, average, best, optimizer, torch.Generator().manual_seed(seed))


def test_round_trip(tmp_path):
    written, read = checkpoint(1), checkpoint(2)
    state = TrainerState(phase=1, step=7, losses=[0.5, 0.25], best=1e-3, before=[1.0, 2.0])
    write_state(tmp_path, written, state)
    assert read_trainer_state(tmp_path) == state
    read_networks(tmp_path, read.network, read.average, read.best)
    read_optimizer(tmp_path, read)
    for a, b in ((written.network, read.network), (written.average, read.average), (written.best, read.best)):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    a, b = (list(c.optimizer.state.values()) for c in (written, read))
    assert all(torch.equal(x["exp_avg"], y["exp_avg"]) for x, y in zip(a, b, strict=True))
    assert torch.equal(written.generator.get_state(), read.generator.get_state())
    remove_state(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_network_is_refused(tmp_path):
    write_state(tmp_path, checkpoint(1), TrainerState())
    with pytest.raises(FormatError, match="the state belongs to another network"):
        read_networks(tmp_path, nn.Linear(4, 2), nn.Linear(3, 2), nn.Linear(3, 2))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(FormatError, match="expected the state of a training, got a damaged file"):
        read_trainer_state(tmp_path)


def test_a_folder_is_begun_once(small_config):
    config = small_config()
    assert open_folder(config) == TrainerState()
    assert open_folder(config) == TrainerState()  # nothing was done yet
    config.out.joinpath("thesis.tex").write_text("")
    assert open_folder(config) == TrainerState()
    config.out.joinpath("config.json").unlink()
    with pytest.raises(ConfigError, match="holds something else"):
        open_folder(config)
