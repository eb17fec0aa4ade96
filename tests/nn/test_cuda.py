"""The network on a GPU gives the numbers of the CPU, forward and backward. Skipped where there is no GPU."""

import pytest
import torch
from ase.build import molecule

from harmose.core.graph import build_graph
from harmose.nn.two_stage import TwoStage
from harmose.representation.batch import GraphBatch, graph_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

METHANOL = molecule("CH3OH")


@pytest.fixture
def batch(space):
    def make(dtype: torch.dtype) -> GraphBatch:
        graph = build_graph(METHANOL, space.basis)
        return graph_batch(space, graph, space.orient(graph), dtype)

    return make


def outputs_and_gradients(model: TwoStage, batch: GraphBatch) -> list[torch.Tensor]:
    """Coefficients of all blocks, and the gradient of the sum of their squares for each parameter, on the CPU."""
    h = model(batch)
    values = [*h.pairs.values(), *h.onsite.values()]
    torch.stack([(x**2).sum() for x in values]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [x.detach().cpu() for x in [*values, *gradients]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_gpu_agrees_with_cpu(network, batch, dtype, tolerance):
    expected = outputs_and_gradients(network(dtype), batch(dtype))
    got = outputs_and_gradients(network(dtype).to("cuda"), batch(dtype).to("cuda"))
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
