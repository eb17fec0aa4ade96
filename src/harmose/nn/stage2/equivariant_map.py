"""Stage 2's mode `exact`: an unconstrained perceptron in frames that learned directions span, without a singular point.

Doublets of order d become *directions*, complex numbers of modulus below one that turn by `e^{i d a}`,

    c_d = u_d / sqrt(|u_d|^2 + SOFT),    u_d = a linear map of the edge's doublets of order d.

Seen from its direction a doublet is invariant under turns: `z = conj(c_d)^(m/d) x_m` for every order m that d divides.
The mirror conjugates z, so that its real part is even and its imaginary part odd. A perceptron f without any symmetry maps
even numbers A and odd ones B to

    even = [f(A + B) + f(A - B)] / 2,    odd = [f(A + B) - f(A - B)] / 2,

both mirror images, and what it says of order m goes back with `c_d^(m/d)`. It also scales and quarter-turns each doublet
that it was given. All of this is exactly equivariant under O(2), and analytic: where a direction vanishes, as by the symmetry
of a linear molecule or a perfect crystal, its part of the answer vanishes with it, and the rest stays.
"""

import torch
from torch import Tensor, nn

from harmose.nn.ops.layers import Rescale, Standardize
from harmose.nn.ops.so2 import EdgeFeatures, SO2Linear, so2_log_norms
from harmose.nn.stage2.frame_map import CovariantMLP
from harmose.nn.stage2.settings import Stage2Settings

SOFT = 0.1
"""Square of the size, in units of the usual one, at which a direction counts for half."""


class EquivariantMap(CovariantMLP):
    """Edge features -> edge features, equivariant under O(2) to rounding error."""

    place: Tensor

    def __init__(
        self, settings: Stage2Settings, l_max: int, n_kinds: int, scalars: int, pseudoscalars: int, so2: int
    ) -> None:
        super().__init__(settings, l_max, n_kinds, pseudoscalars, so2)
        s = settings
        self.direct = SO2Linear(l_max, s.so2_channels, s.directions)
        self.size = Rescale(l_max, 1, 1, s.directions)
        orders = [m for d in range(1, l_max + 1) for m in range(d, l_max + 1, d)]
        n_seen = len(orders) * s.directions * s.so2_channels
        even = scalars + l_max * s.so2_channels + n_seen
        self.standardize = Standardize(n_kinds, l_max * s.so2_channels + n_seen)
        self.even = nn.Linear(even, s.hidden)
        self.odd = nn.Linear(pseudoscalars + n_seen, s.hidden, bias=False)
        self.sizes = [n_seen, l_max * s.so2_channels]
        self.write_even = nn.Linear(s.hidden, s.scalars + sum(self.sizes))
        self.write_odd = nn.Linear(s.hidden, s.pseudoscalars + sum(self.sizes), bias=False)
        self.register_buffer("place", torch.tensor(orders, dtype=torch.int64) - 1, persistent=False)

    def forward(self, edges: EdgeFeatures, kind: Tensor, generator: torch.Generator | None = None) -> EdgeFeatures:
        """`generator` is not needed: nothing is drawn."""
        edges = self.scaled(edges)
        x = _complex(edges.so2)
        powers = self._powers(edges.so2)[..., None]
        z = x.index_select(0, self.place)[:, :, None] * powers.conj()
        z_even, z_odd = torch.view_as_real(z).permute(4, 1, 0, 2, 3).flatten(2)
        invariants = self.standardize(torch.cat([so2_log_norms(edges.so2), z_even], 1), kind)
        a = self.even(torch.cat([edges.scalars, invariants], 1))
        b = self.odd(torch.cat([edges.pseudoscalars, z_odd], 1))
        straight, mirrored = self.hidden(torch.cat([a + b, a - b]), kind.repeat(2)).chunk(2)
        scalars, y_even, g_even = self._split(self.write_even((straight + mirrored) / 2))
        pseudoscalars, y_odd, g_odd = self._split(self.write_odd((straight - mirrored) / 2))
        y = torch.complex(y_even, y_odd).view(len(kind), *z.shape[:1], *z.shape[2:]).transpose(0, 1)
        g = torch.complex(g_even, g_odd).view(len(kind), self.l_max, x.shape[2]).transpose(0, 1)
        out = (x * g).index_add(0, self.place, (y * powers).sum(2))
        return EdgeFeatures(scalars, pseudoscalars, torch.stack([out.real, out.imag], 2))

    def _powers(self, so2: Tensor) -> Tensor:
        """c_d^(m/d) for d = 1.. and m = d, 2d, ..: complex (orders, E, K)."""
        u = self.size(self.direct(so2))
        directions = _complex(u * torch.rsqrt(u.square().sum(2, keepdim=True) + SOFT))
        powers = []
        for d in range(1, self.l_max + 1):
            c = power = directions[d - 1]
            for _ in range(d, self.l_max + 1, d):
                powers.append(power)
                power = power * c
        return torch.stack(powers)

    def _split(self, written: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        axial = written.shape[1] - sum(self.sizes)
        first, turned, scaled = written.split([axial, *self.sizes], 1)
        return first, turned, scaled


def _complex(so2: Tensor) -> Tensor:
    """(M, E, 2, n) -> x_m, complex (M, E, n)."""
    return torch.complex(so2[:, :, 0], so2[:, :, 1])
