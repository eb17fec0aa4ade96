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
    """Return named tensors; `from_state` is the inverse."""
    out = {name: torch.as_tensor(getattr(calibration, name)) for name in ARRAYS}
    errors = [calibration.usual_error, calibration.error_limit]
    return out | {"n_groups": torch.tensor([calibration.n_groups]), "errors": torch.tensor(errors, dtype=torch.float64)}


def last_layer_to_state(last_layer: LastLayer) -> dict[str, Tensor]:
    """Return named tensors, whitening matrices in float32; `last_layer_from_state` is the inverse."""
    out = {"half": torch.as_tensor(last_layer.half)}
    for name in ("edges", "atoms"):
        matrices = getattr(last_layer, name)
        out |= {f"{name}.{k}": torch.as_tensor(w, dtype=torch.float32) for k, w in matrices.items()}
    return out


def last_layer_from_state(state: Mapping[str, Tensor]) -> LastLayer | None:
    """Read a last layer; None for no tensors, `ModelError` for tensors that do not fit together."""
    if not state:
        return None
    half = state["half"].numpy() if "half" in state else np.full(2, np.inf)
    if half.shape != (2,) or not (half > 0).all():
        raise ModelError(f"checkpoint: the last layer is not complete: expected two positive numbers, got half {half}")
    return LastLayer(_matrices(state, "edges."), _matrices(state, "atoms."), half)


def from_state(state: Mapping[str, Tensor]) -> Calibration | None:
    """Read a calibration; None for no tensors, `ModelError` for tensors that are missing or do not fit together."""
    if not state:
        return None
    if missing := {*ARRAYS, "n_groups"} - state.keys():
        raise ModelError(f"checkpoint: the calibration is not complete: no tensor {min(missing)}")
    arrays = {name: state[name].numpy() for name in ARRAYS}
    if len(arrays["powers"]) == 3:  # models older than version 4 have no variance of the regression: p, q, t
        added = {"powers": 0.0, "feature_floors": 1.0, "feature_limits": np.inf}
        arrays |= {name: np.concatenate([arrays[name][:2], [x], arrays[name][2:]]) for name, x in added.items()}
    _check(arrays)
    if state["n_groups"].shape != (1,):
        raise ModelError("checkpoint: the calibration is not complete: expected one number n_groups")
    errors = state["errors"].tolist() if "errors" in state else [np.inf, np.inf]  # models older than version 4
    if len(errors) != 2 or not min(errors) > 0:
        raise ModelError(f"checkpoint: the calibration is not complete: expected two positive errors, got {errors}")
    return Calibration(**arrays, n_groups=int(state["n_groups"][0]), usual_error=errors[0], error_limit=errors[1])


def _matrices(state: Mapping[str, Tensor], prefix: str) -> dict[int, np.ndarray]:
    return {int(name.removeprefix(prefix)): w.double().numpy() for name, w in state.items() if name.startswith(prefix)}


def _check(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `ModelError` for arrays of wrong shapes, and for values that no calibration has."""
    n_types, n_kinds, n = len(arrays["block_types"]), len(ORBITAL_KINDS), len(arrays["confidences"])
    shapes = {
        "powers": (4,),
        "feature_floors": (3,),
        "feature_limits": (3,),
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
