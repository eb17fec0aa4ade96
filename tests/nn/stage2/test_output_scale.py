"""Scales of stage 2's outputs: the root mean square of a residual, alike for pairs and their reversals."""

import pytest
import torch

from harmose.nn.stage2.output_scale import OutputScale
from harmose.representation.block_irreps import Coefficients


@pytest.fixture
def residual(space) -> Coefficients:
    """Random coefficients of a hundred pairs of each group and a hundred atoms of each shell type."""
    torch.manual_seed(0)
    pairs = {g: torch.as_tensor(space.pair_layout(g).mask) for g in space.groups}
    onsite = {s: torch.as_tensor(space.onsite_layout(s).mask) for s in range(len(space.shell_types))}
    return Coefficients(
        {g: torch.randn(100, *m.shape) * m for g, m in pairs.items()},
        {s: torch.randn(100, *m.shape) * m for s, m in onsite.items()},
    )


def scaled(c: Coefficients, factor: float) -> Coefficients:
    return Coefficients({g: factor * x for g, x in c.pairs.items()}, {s: factor * x for s, x in c.onsite.items()})


def test_scales_are_one_until_they_are_fitted(space, residual):
    out = OutputScale(space)(residual)
    assert all(torch.equal(out.pairs[g], x) for g, x in residual.pairs.items())


def test_outputs_get_the_size_of_the_residual(space, residual):
    scale = OutputScale(space)
    scale.fit(scaled(residual, 1e-3))
    out = scale(residual)
    for group, x in out.pairs.items():
        ratio = x.norm() / residual.pairs[group].norm()
        assert ratio.item() == pytest.approx(1e-3, rel=0.1)
    for s, x in out.onsite.items():
        assert (x.norm() / residual.onsite[s].norm()).item() == pytest.approx(1e-3, rel=0.2)


def test_a_pair_and_its_reversal_have_one_scale(space, residual):
    """Residuals that differ between a pair and its reversal, as the few pairs of a small batch give."""
    scale = OutputScale(space)
    torch.manual_seed(1)
    scale.fit(Coefficients({g: x * torch.rand(x.shape[-1]) for g, x in residual.pairs.items()}, residual.onsite))
    for k, group in enumerate(space.groups):
        if group[0] == group[1]:
            column = torch.as_tensor(space.pair_layout(group).reversal[0])
            fitted = scale.get_buffer(f"pairs{k}")
            torch.testing.assert_close(fitted, fitted[column])
            assert fitted.min() < fitted.max()


def test_components_of_one_degree_have_one_scale(space, residual):
    scale = OutputScale(space)
    scale.fit(residual)
    for s in residual.onsite:
        fitted = scale.get_buffer(f"onsite{s}")
        for l in range(space.l_max + 1):
            rows = fitted[l * l : (l + 1) ** 2]
            torch.testing.assert_close(rows, rows[:1].expand_as(rows))


def test_groups_without_blocks_keep_their_scales(space, residual):
    scale = OutputScale(space)
    scale.fit(Coefficients({g: x[:0] for g, x in residual.pairs.items()}, residual.onsite))
    assert (scale.get_buffer("pairs0") == 1).all()
