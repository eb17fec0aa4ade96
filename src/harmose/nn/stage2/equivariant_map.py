"""`EquivariantMap`, the mode `exact` of stage 2: a plain perceptron in frames that learned directions span.

Linear maps of an edge's SO(2) features of order d give *directions*, complex numbers of modulus below one that turn by
`e^{i d a}`,

    c_d = u_d / sqrt(|u_d|^2 + SOFT),    u_d = linear map of the SO(2) features of order d.

Relative to its direction a feature is invariant under turns: `z = conj(c_d)^(m/d) x_m` for every order m that d
divides. The mirror conjugates z, so that its real part is even and its imaginary part odd. A perceptron f without any
symmetry maps even numbers A and odd ones B to

    even = [f(A + B) + f(A - B)] / 2,    odd = [f(A + B) - f(A - B)] / 2,

an average over both mirror images. Its output of order m is multiplied by `c_d^(m/d)`. It also scales each input
feature by a complex number. All of this is exactly equivariant under O(2), and analytic: where the symmetry of a
linear molecule or of a perfect crystal makes a direction vanish, its part of the output vanishes with it, and the rest
stays. The paper learns this symmetry from random frames instead (arXiv:2401.00744; `frame_map`).
"""

import torch
from torch import Tensor, nn

from harmose.nn.ops.features import EdgeFeatures, EdgeWidths
from harmose.nn.ops.layers import Rescale, Standardize
from harmose.nn.ops.so2 import SO2Linear, so2_log_norms
from harmose.nn.stage2.frame_map import CovariantMLP
from harmose.nn.stage2.settings import Stage2Settings

SOFT = 0.1
"""|u|^2, relative to its mean in training, at which a direction has modulus 0.71."""


class EquivariantMap(CovariantMLP):
    """Edge features -> edge features, equivariant under O(2) to rounding error."""

    place: Tensor

    def __init__(self, settings: Stage2Settings, l_max: int, n_pair_types: int, widths: EdgeWidths) -> None:
        super().__init__(settings, l_max, n_pair_types, widths)
        s = settings
        self.directions = SO2Linear(l_max, s.so2_channels, s.directions)
        self.direction_scale = Rescale(l_max, 1, 1, s.directions)
        orders = [m for d in range(1, l_max + 1) for m in range(d, l_max + 1, d)]
        n_relative = len(orders) * s.directions * s.so2_channels
        n_even = widths.scalars + l_max * s.so2_channels + n_relative
        self.standardize = Standardize(n_pair_types, l_max * s.so2_channels + n_relative)
        self.read_even = nn.Linear(n_even, s.hidden)
        self.read_odd = nn.Linear(widths.pseudoscalars + n_relative, s.hidden, bias=False)
        self.sizes = [n_relative, l_max * s.so2_channels]
        self.write_even = nn.Linear(s.hidden, s.scalars + sum(self.sizes))
        self.write_odd = nn.Linear(s.hidden, s.pseudoscalars + sum(self.sizes), bias=False)
        self.register_buffer("place", torch.tensor(orders, dtype=torch.int64) - 1, persistent=False)

    def forward(self, edges: EdgeFeatures, pair_type: Tensor, generator: torch.Generator | None = None) -> EdgeFeatures:
        """`generator` is not used: nothing is drawn at random."""
        edges = self.scaled(edges)
        x = _complex(edges.so2)
        powers = self._powers(edges.so2)[..., None]
        z = x.index_select(0, self.place)[:, :, None] * powers.conj()
        # Isolated atoms have no edges, for which the gradient of `view_as_real` fails.
        z_even, z_odd = torch.view_as_real(z if z.numel() else z.detach()).permute(4, 1, 0, 2, 3).flatten(2)
        invariants = self.standardize(torch.cat([so2_log_norms(edges.so2), z_even], 1), pair_type)
        a = self.read_even(torch.cat([edges.scalars, invariants], 1))
        b = self.read_odd(torch.cat([edges.pseudoscalars, z_odd], 1))
        straight, mirrored = self.hidden(torch.cat([a + b, a - b]), pair_type.repeat(2)).chunk(2)
        scalars, y_even, g_even = self._split(self.write_even((straight + mirrored) / 2))
        pseudoscalars, y_odd, g_odd = self._split(self.write_odd((straight - mirrored) / 2))
        y = torch.complex(y_even, y_odd).view(len(pair_type), *z.shape[:1], *z.shape[2:]).transpose(0, 1)
        g = torch.complex(g_even, g_odd).view(len(pair_type), self.l_max, x.shape[2]).transpose(0, 1)
        out = (x * g).index_add(0, self.place, (y * powers).sum(2))
        return EdgeFeatures(scalars, pseudoscalars, torch.stack([out.real, out.imag], 2))

    def _powers(self, so2: Tensor) -> Tensor:
        """c_d^(m/d) for d = 1.. and m = d, 2d, ..: complex (orders, E, directions)."""
        u = self.direction_scale(self.directions(so2))
        directions = _complex(u * torch.rsqrt(u.square().sum(2, keepdim=True) + SOFT))
        powers = []
        for d in range(1, self.l_max + 1):
            c = power = directions[d - 1]
            for _ in range(d, self.l_max + 1, d):
                powers.append(power)
                power = power * c
        return torch.stack(powers)

    def _split(self, written: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split outputs into those of order m = 0, those relative to directions, and factors of the input features."""
        n_m0 = written.shape[1] - sum(self.sizes)
        m0, relative, factors = written.split([n_m0, *self.sizes], 1)
        return m0, relative, factors


def _complex(so2: Tensor) -> Tensor:
    """(M, E, 2, n) -> x_m, complex (M, E, n)."""
    return torch.complex(so2[:, :, 0], so2[:, :, 1])
