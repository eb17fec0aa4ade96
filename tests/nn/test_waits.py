"""Neither a network's pass nor its gradient waits for the device: no number is read, no shape depends on values."""

import torch
from ase.build import molecule
from torch.utils._python_dispatch import TorchDispatchMode

from harmose.core.graph import build_graph
from harmose.representation.block_irreps import map_coefficients
from harmose.representation.concatenation import concatenate, concatenated_batch

WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.bincount.default,
    torch.ops.aten.equal.default,
}


class Watch(TorchDispatchMode):
    """Record operators that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masked = func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype is torch.bool for i in args[1])
        if func in WAITS or masked:
            self.waiting.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_number_that_is_read_is_recorded():
    with Watch() as watch:
        torch.ones(3).sum().item()
        x = torch.ones(3)
        x[x > 0]
    assert len(watch.waiting) >= 2


def test_a_training_step_does_not_wait(network):
    net = network(torch.float32).train().requires_grad_(True)
    graphs = [build_graph(molecule(name), net.space.basis) for name in ("H2O", "CH3CH2OH")]
    batch = concatenated_batch(net.space, concatenate(net.space, graphs))
    with Watch() as watch:
        found = net(batch)
        squares = map_coefficients(lambda x: x.square().sum(), found)
        torch.stack([*squares.pairs.values(), *squares.onsite.values()]).sum().backward()
    assert watch.waiting == []
