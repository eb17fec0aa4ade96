"""The loss of a phase by `torch.compile`: one graph for batches of any size.

Compiling takes minutes and needs a C++ compiler (or, on a GPU, Triton). It is optional: after any failure training continues
without it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental import _config as shapes

from harmose.errors import HarmoseError, ModelError
from harmose.representation.batch import GraphBatch

TOLERANCE = 1e-3
"""Largest relative difference of the loss and its gradient's norm in the first step, which is made both ways."""


class Compiled:
    """`function(batch, ...)`, compiled when it is first called, and never again.

    Compiled with dynamic shapes. torch.compile specializes sizes 0 and 1, so batches with other empty groups than the first run
    eagerly, as do calls that the graph does not fit for any other reason.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        torch.compiler.reset()  # frees graphs of other phases
        self._function = torch.compile(function, dynamic=True, fullgraph=True)
        self._kind: tuple[int, ...] | None = None
        self.is_new = True

    def takes(self, graph: GraphBatch) -> bool:
        """Return True if the batch has the same empty groups as the first one."""
        kind = tuple(min(n, 2) for n in (*graph.pair_counts, *graph.atom_counts, graph.n_samples))
        self._kind = self._kind or kind
        return kind == self._kind

    def __call__(self, *inputs: Any) -> Tensor:
        """Call the compiled function. Compiler errors are raised here or in the backward pass."""
        if self.is_new:
            with shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # sizes may be equal by chance
                return self._function(*inputs)
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._function(*inputs)

    def check(self, expected: tuple[float, float], got: tuple[float, float]) -> None:
        """Raise `ModelError` unless a finite loss and the norm of its gradient are the same with and without compiling."""
        self.is_new = False
        for one, other in zip(expected, got, strict=True):
            if math.isfinite(one) and not abs(one - other) <= TOLERANCE * abs(one):
                raise ModelError(f"expected a loss and a gradient of {expected}, got {got}")


def reason(error: Exception) -> str:
    """Return the first line of a compiler's error."""
    if isinstance(error, HarmoseError):
        return str(error)
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'no message'}"[:200]
