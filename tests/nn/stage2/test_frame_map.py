"""The learned map: random frames in training, an average over turns and mirror images in a prediction."""

import pytest
import torch

from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.stage2.frame_map import FrameAveragedMap
from harmose.nn.stage2.settings import Stage2Settings

L, N = 3, 20
WIDTHS, PAIR_TYPE = EdgeWidths(6, 3, 5), torch.arange(N) % 2


@pytest.fixture
def edges() -> EdgeFeatures:
    torch.manual_seed(1)
    return EdgeFeatures(*(torch.randn(*s).double() for s in ((N, 6), (N, 3), (L, N, 2, 5))))


def learned(**changes) -> FrameAveragedMap:
    torch.manual_seed(0)
    widths = {"scalars": 4, "pseudoscalars": 2, "so2_channels": 3, "hidden": 16, "mlp_layers": 1}
    settings = Stage2Settings(symmetry="learned", **widths, **changes)
    return FrameAveragedMap(settings, L, 2, WIDTHS).double().requires_grad_(False).eval()


def turned(edges: EdgeFeatures, angle: float, mirror: int = 1) -> EdgeFeatures:
    x = torch.complex(edges.so2[:, :, 0], edges.so2[:, :, 1])
    x = x * torch.exp(1j * angle * torch.arange(1, L + 1).double())[:, None, None]
    return EdgeFeatures(edges.scalars, mirror * edges.pseudoscalars, torch.stack([x.real, mirror * x.imag], 2))


def error(a: EdgeFeatures, b: EdgeFeatures) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def test_the_average_is_exact_for_its_own_turns_and_the_mirror(edges):
    module, angle = learned(turns=4), torch.pi / 2
    out = module(edges, PAIR_TYPE, None)
    for turn, mirror in ((angle, 1), (0.0, -1), (angle, -1)):
        assert error(module(turned(edges, turn, mirror), PAIR_TYPE, None), turned(out, turn, mirror)) < 1e-12


def test_other_turns_are_better_the_more_there_are(edges):
    errors = []
    for turns in (1, 4, 16):
        module = learned(turns=turns)
        expected = turned(module(edges, PAIR_TYPE, None), 0.3)
        errors.append(error(module(turned(edges, 0.3), PAIR_TYPE, None), expected))
    assert errors[0] > errors[1] > errors[2]


def test_training_draws_frames_from_the_generator(edges):
    module = learned().train()
    one, again, other = (module(edges, PAIR_TYPE, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert error(one, again) == 0
    assert error(one, other) > 1e-3


def test_without_rotation_frames_are_taken_as_they_come(edges):
    module = learned(rotate=False)
    out = module(edges, PAIR_TYPE, None)
    assert error(out, module.train()(edges, PAIR_TYPE, None)) == 0
    assert error(module(turned(edges, 0.3), PAIR_TYPE, None), turned(out, 0.3)) > 1e-2
