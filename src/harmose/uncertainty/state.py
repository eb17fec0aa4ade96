"""A calibration as flat tensors for a checkpoint, and back."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.llpr import LastLayer
from harmose.uncertainty.orbitals import ORBITAL_KINDS

ARRAYS = (
    "powers",
    "feature_floors",
    "feature_limits",
    "block_types",
    "block_factors",
    "orbital_factors",
    "orbital_powers",
    "orbital_limits",
    "mean_scores",
    "confidences",
)
"""Attributes of `Calibration` that are written under their own names."""


def to_state(calibration: Calibration) -> dict[str, Tensor]:
    """Return named tensors, whitening matrices in float32."""
    out = {name: torch.as_tensor(getattr(calibration, name)) for name in ARRAYS}
    out["n_groups"] = torch.tensor([calibration.n_groups])
    for name in ("edges", "atoms"):
        matrices = getattr(calibration.last_layer, name)
        out |= {f"{name}.{k}": torch.as_tensor(w, dtype=torch.float32) for k, w in matrices.items()}
    return out


def from_state(state: Mapping[str, Tensor]) -> Calibration | None:
    """Read a calibration; None for no tensors, `ModelError` for tensors that are missing or do not fit together."""
    if not state:
        return None
    if missing := {*ARRAYS, "n_groups"} - state.keys():
        raise ModelError(f"checkpoint: the calibration is not complete: no tensor {min(missing)}")
    arrays = {name: state[name].numpy() for name in ARRAYS}
    _check(arrays)
    if state["n_groups"].shape != (1,):
        raise ModelError("checkpoint: the calibration is not complete: expected one number n_groups")
    last_layer = LastLayer(_matrices(state, "edges."), _matrices(state, "atoms."))
    return Calibration(last_layer, **arrays, n_groups=int(state["n_groups"][0]))


def _matrices(state: Mapping[str, Tensor], prefix: str) -> dict[int, np.ndarray]:
    return {int(name.removeprefix(prefix)): w.double().numpy() for name, w in state.items() if name.startswith(prefix)}


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `ModelError` for arrays of wrong shapes, and for values that no calibration has."""
    n_types, n_kinds, n = len(arrays["block_types"]), len(ORBITAL_KINDS), len(arrays["confidences"])
    shapes = {
        "powers": (3,),
        "feature_floors": (2,),
        "feature_limits": (2,),
        "block_types": (max(n_types, 1),),
        "block_factors": (n_types + 1, n),
        "orbital_factors": (n_kinds, n),
        "orbital_powers": (n_kinds,),
        "orbital_limits": (n_kinds,),
        "mean_scores": (n_types + 1,),
    }
    for name, shape in shapes.items():
        x = arrays[name]
        if x.shape != shape:
            raise ModelError(f"checkpoint: the calibration is not complete: expected {name} {shape}, got {x.shape}")
        if np.isnan(x).any() or (name not in ("powers", "block_types") and x.min(initial=0) < 0):
            raise ModelError(f"checkpoint: the calibration is not complete: {name} has negative or undefined values")
