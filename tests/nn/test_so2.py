"""The convolution in edge frames spans exactly the maps of e3nn's tensor product with spherical harmonics."""

import numpy as np
import pytest
import torch
from e3nn import o3

from harmose.nn.so2 import DoubletLinear, into_frames, out_of_frames
from harmose.so3.layout import edge_frames
from harmose.so3.wigner import edge_wigner

L = 3


def frames_of(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return edge_frames([edge_wigner(l, vectors) for l in range(L + 1)])


def harmonics(l: int, vectors: torch.Tensor) -> torch.Tensor:
    return o3.spherical_harmonics(l, vectors[:, [1, 2, 0]], normalize=True)


def tensor_product_maps(l_in: int, l_out: int, mirrored: bool, vectors: torch.Tensor) -> torch.Tensor:
    """Features l_in x Y_f -> l_out for every f that parity allows: (paths, E, 2 l_out + 1, 2 l_in + 1)."""
    paths = []
    for f in range(abs(l_in - l_out), l_in + l_out + 1):
        if (l_in + f + l_out) % 2 == mirrored:
            table = o3.wigner_3j(l_in, f, l_out, dtype=torch.float64)
            paths.append(torch.einsum("ifo,ef->eoi", table, harmonics(f, vectors)))
    return torch.stack(paths) if paths else torch.zeros(0, len(vectors), 2 * l_out + 1, 2 * l_in + 1).double()


def edge_frame_maps(l_in: int, l_out: int, mirrored: bool, vectors: torch.Tensor) -> torch.Tensor:
    """One map for each order m: into the frame, pass on the doublet of order m, back out; through the code's functions."""
    frames = frames_of(vectors)
    back, maps = frames[1] if mirrored else frames[0], []
    edges, size = len(vectors), 2 * l_in + 1
    features = torch.zeros(edges, (L + 1) ** 2, size, dtype=torch.float64)
    features[:, l_in**2 : (l_in + 1) ** 2] = torch.eye(size, dtype=torch.float64)
    axial, doublets = into_frames(frames[0], features, L)
    axial, doublets = axial.view(edges, L + 1, size), doublets.reshape(L, edges, 2, L, size)
    for m in range(1 if mirrored else 0, min(l_in, l_out) + 1):
        sent_axial, sent = torch.zeros_like(axial), torch.zeros_like(doublets)
        if m == 0:
            sent_axial[:, l_out] = axial[:, l_in]
        else:
            sent[m - 1, :, :, l_out - 1] = doublets[m - 1, :, :, l_in - 1]
        out = out_of_frames(back, sent_axial.flatten(1), sent.flatten(3), L)
        maps.append(out[:, l_out**2 : (l_out + 1) ** 2])
    return torch.stack(maps) if maps else torch.zeros(0, edges, 2 * l_out + 1, size).double()


@pytest.mark.parametrize("mirrored", [False, True], ids=["natural", "unnatural"])
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


def test_doublet_linear_commutes_with_turns_and_mirror():
    torch.manual_seed(0)
    linear = DoubletLinear(2, 5, 3).double()
    x, a = torch.randn(2, 4, 2, 5, dtype=torch.float64), 0.7

    def turned(d: torch.Tensor) -> torch.Tensor:
        cos, sin = (f(a * torch.arange(1, 3.0, dtype=torch.float64))[:, None, None] for f in (torch.cos, torch.sin))
        return torch.stack([cos * d[:, :, 0] - sin * d[:, :, 1], sin * d[:, :, 0] + cos * d[:, :, 1]], 2)

    mirror = torch.tensor([1.0, -1.0]).double()[:, None]
    torch.testing.assert_close(linear(turned(x)), turned(linear(x)))
    torch.testing.assert_close(linear(x * mirror), linear(x) * mirror)


def test_out_of_frames_undoes_into_frames():
    vectors = torch.as_tensor(np.random.default_rng(1).normal(size=(5, 3)))
    features = torch.as_tensor(np.random.default_rng(2).normal(size=(5, (L + 1) ** 2, 4)))
    for frames in frames_of(vectors):
        torch.testing.assert_close(out_of_frames(frames, *into_frames(frames, features, L), L), features)


def test_features_of_the_edge_itself_are_axial():
    vectors = torch.as_tensor(np.random.default_rng(3).normal(size=(5, 3)))
    features = torch.cat([harmonics(l, vectors) for l in range(L + 1)], 1)[..., None]
    axial, doublets = into_frames(frames_of(vectors)[0], features, L)
    assert doublets.abs().max() < 1e-12
    assert (axial > 0.2).all()
