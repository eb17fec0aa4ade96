"""A calibration as flat tensors for a checkpoint, and back."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from harmose.errors import ModelError
from harmose.uncertainty.calibration import Calibration
from harmose.uncertainty.llpr import LastLayer
from harmose.uncertainty.orbitals import KINDS

ARRAYS = (
    "powers",
    "least",
    "most",
    "kinds",
    "factors",
    "orbitals",
    "orbital_powers",
    "orbital_most",
    "typical",
    "confidences",
)


def to_state(calibration: Calibration) -> dict[str, Tensor]:
    """Tensors named by what they are; whitening matrices in float32."""
    out = {name: torch.as_tensor(getattr(calibration, name)) for name in ARRAYS}
    out["n_groups"] = torch.tensor([calibration.n_groups])
    for name in ("edges", "atoms"):
        table = getattr(calibration.last_layer, name)
        out |= {f"{name}.{k}": torch.as_tensor(w, dtype=torch.float32) for k, w in table.items()}
    return out


def from_state(state: Mapping[str, Tensor]) -> Calibration | None:
    """The inverse; None of no tensors, `ModelError` of tensors that do not belong together."""
    if not state:
        return None
    try:
        last_layer = LastLayer(*(_table(state, name) for name in ("edges", "atoms")))
        arrays = {name: state[name].numpy() for name in ARRAYS}
        found = Calibration(last_layer, **arrays, n_groups=int(state["n_groups"][0]))
        _check(found)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"checkpoint: the calibration is not complete ({error})") from None
    return found


def _table(state: Mapping[str, Tensor], name: str) -> dict[int, np.ndarray]:
    return {
        int(key.removeprefix(f"{name}.")): w.double().numpy() for key, w in state.items() if key.startswith(f"{name}.")
    }


def _check(c: Calibration) -> None:
    n = len(c.confidences)
    if not len(c.kinds):
        raise ValueError("expected kinds of block, got none")
    expected = {
        "powers": (3,),
        "least": (2,),
        "most": (2,),
        "factors": (len(c.kinds) + 1, n),
        "orbitals": (len(KINDS), n),
    }
    expected |= {"orbital_powers": (len(KINDS),), "orbital_most": (len(KINDS),), "typical": (len(c.kinds) + 1,)}
    for name, shape in expected.items():
        found = getattr(c, name)
        if found.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {found.shape}")
        if np.isnan(found).any() or found.min() < (-np.inf if name == "powers" else 0):
            raise ValueError(f"{name} holds values that mean nothing")
