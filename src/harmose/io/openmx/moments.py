"""Initial magnetic moments of OpenMX's atoms: the difference of their initial electrons up and down, and its direction."""

import numpy as np

from harmose.io.openmx.input import Input
from harmose.spin import Spin


def initial_moments(text: Input, spin: Spin) -> np.ndarray | None:
    """Return the initial moment of each atom in Bohr magnetons, (N,) or for spinors vectors (N, 3); None without them."""
    electrons = text.initial_electrons()
    if not electrons or spin is Spin.NONE:
        return None
    lengths = np.array([up - down for up, down in electrons])
    if spin is Spin.COLLINEAR:
        return np.round(lengths, 9)
    theta, phi = np.radians(np.array(text.initial_directions())).T
    directions = np.column_stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    return np.round(lengths[:, None] * directions, 9)
