"""The convolution in edge frames spans exactly the maps of e3nn's tensor product with spherical harmonics."""

from importlib import import_module

import numpy as np
import pytest
import torch

from harmose.nn.ops.frames import (
    PairFrames,
    ReversalSigns,
    both_directions,
    gather_in_frames,
    m0_signs,
    messages_in_frames,
    so2_signs,
    sum_over_edges,
)
from harmose.nn.ops.frames import pair_frames as prepared
from harmose.nn.ops.so2 import SO2Linear
from harmose.representation.layout import pair_frames, reversal_signs
from harmose.so3.wigner import edge_wigner


def o3():
    """The module, imported on first use: the import of e3nn takes seconds."""
    return import_module("e3nn.o3")


L = 3
SIGNS = ReversalSigns(so2_signs(L).double(), m0_signs(L).double())


def between(vectors: torch.Tensor) -> PairFrames:
    """Frames of pairs along the vectors, pair k from atom k to atom k + n."""
    rotation, n = pair_frames([torch.from_numpy(edge_wigner(l, vectors)) for l in range(L + 1)]), len(vectors)
    weight = torch.ones(n, 1, 1, dtype=torch.float64)
    reversal = torch.as_tensor(reversal_signs(L))[:, None]
    return prepared(rotation, reversal, weight, torch.arange(n), torch.arange(n) + n, 2 * n)


def harmonics(l: int, vectors: torch.Tensor) -> torch.Tensor:
    return o3().spherical_harmonics(l, vectors[:, [1, 2, 0]], normalize=True)


def tensor_product_maps(l_in: int, l_out: int, mirrored: bool, vectors: torch.Tensor) -> torch.Tensor:
    """Features l_in x Y_f -> l_out for every f that parity allows: (paths, E, 2 l_out + 1, 2 l_in + 1)."""
    paths = []
    for f in range(abs(l_in - l_out), l_in + l_out + 1):
        if (l_in + f + l_out) % 2 == mirrored:
            table = o3().wigner_3j(l_in, f, l_out, dtype=torch.float64)
            paths.append(torch.einsum("ifo,ef->eoi", table, harmonics(f, vectors)))
    return torch.stack(paths) if paths else torch.zeros(0, len(vectors), 2 * l_out + 1, 2 * l_in + 1).double()


def edge_frame_maps(l_in: int, l_out: int, mirrored: bool, vectors: torch.Tensor) -> torch.Tensor:
    """One map for each order m: into the frame, pass on the feature of order m, and back; by the code's functions."""
    edges, size, maps = len(vectors), 2 * l_in + 1, []
    atoms, frames = between(vectors), torch.zeros(2 * edges, (L + 1) ** 2, size, dtype=torch.float64)
    frames[:edges, l_in**2 : (l_in + 1) ** 2] = torch.eye(size, dtype=torch.float64)
    m0, so2 = both_directions(gather_in_frames(frames, atoms), SIGNS, True)
    m0 = m0[:edges].view(edges, L + 1, 2, size)[:, :, 0]
    so2 = so2[:, :edges].unflatten(3, (L, 2, size))[:, :, :, :, 0]
    for m in range(1 if mirrored else 0, min(l_in, l_out) + 1):
        sent_m0, sent = torch.zeros_like(m0).repeat(2, 1, 1), torch.zeros_like(so2).repeat(1, 2, 1, 1, 1)
        if m == 0:
            sent_m0[:edges, l_out] = m0[:, l_in]
        else:
            sent[m - 1, :edges, :, l_out - 1] = so2[m - 1, :, :, l_in - 1]
        nothing, weights = torch.zeros_like(sent_m0), torch.eye(L * size, dtype=torch.float64)
        parts, weight = [sent_m0, nothing], [weights, torch.zeros_like(weights)]
        if mirrored:
            parts, weight = parts[::-1], weight[::-1]
        written = messages_in_frames(
            *(x.flatten(1) for x in parts), sent.flatten(3), torch.cat(weight, 1).repeat(L, 1, 1)
        )
        out = sum_over_edges(written, atoms)[:edges].unflatten(2, (2, size))[:, :, int(mirrored)]
        maps.append(out[:, l_out**2 : (l_out + 1) ** 2])
    return torch.stack(maps) if maps else torch.zeros(0, edges, 2 * l_out + 1, size).double()


@pytest.mark.parametrize("mirrored", [False, True], ids=["proper", "pseudo"])
@pytest.mark.parametrize("l_out", range(L + 1))
@pytest.mark.parametrize("l_in", range(L + 1))
def test_same_span_as_the_tensor_product(l_in, l_out, mirrored):
    vectors = torch.as_tensor(np.random.default_rng(0).normal(size=(7, 3)))
    ours, theirs = (
        f(l_in, l_out, mirrored, vectors).flatten(1).numpy() for f in (edge_frame_maps, tensor_product_maps)
    )
    assert len(ours) == len(theirs)
    if len(ours):
        # The weights that turn one set of maps into the other are the same for all edges at once.
        weights = np.linalg.lstsq(theirs.T, ours.T, rcond=None)[0]
        np.testing.assert_allclose(weights.T @ theirs, ours, atol=1e-10)
        assert np.linalg.matrix_rank(weights) == len(ours)


def test_so2_linear_commutes_with_turns_and_mirror():
    torch.manual_seed(0)
    linear = SO2Linear(2, 5, 3).double()
    x, a = torch.randn(2, 4, 2, 5, dtype=torch.float64), 0.7

    def turned(d: torch.Tensor) -> torch.Tensor:
        cos, sin = (f(a * torch.arange(1, 3.0, dtype=torch.float64))[:, None, None] for f in (torch.cos, torch.sin))
        return torch.stack([cos * d[:, :, 0] - sin * d[:, :, 1], sin * d[:, :, 0] + cos * d[:, :, 1]], 2)

    mirror = torch.tensor([1.0, -1.0]).double()[:, None]
    torch.testing.assert_close(linear(turned(x)), turned(linear(x)))
    torch.testing.assert_close(linear(x * mirror), linear(x) * mirror)
