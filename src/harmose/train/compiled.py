"""The loss of a phase by `torch.compile`: one graph for batches of any size, or none at all.

Compiling costs minutes and needs a C++ compiler (or, on a GPU, Triton), so that it is asked for and never needed: whatever
goes wrong, the network goes on as it is.
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
"""Relative, of the loss and its gradient's norm in the first step, which is made both ways."""


class Compiled:
    """`function(batch, ...)`, compiled when it is first called, and never again.

    Sizes are symbols in the graph, but for those that are 0 or 1, of which a compiler knows better: batches that lack other
    groups of pairs or atoms than the first one did are not taken. What the graph does not fit for any other reason is worked
    out by the function as it is.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        torch.compiler.reset()  # what was compiled for another phase or training is not needed any more
        self._function = torch.compile(function, dynamic=True, fullgraph=True)
        self._kind: tuple[int, ...] | None = None
        self.is_new = True

    def takes(self, graph: GraphBatch) -> bool:
        """Whether the batch is like the first one that was asked for."""
        kind = tuple(min(n, 2) for n in (*graph.pair_counts, *graph.atom_counts, graph.n_samples))
        self._kind = self._kind or kind
        return kind == self._kind

    def __call__(self, *inputs: Any) -> Tensor:
        """Raises whatever compiling does, which may wait until the gradient is asked for."""
        if self.is_new:
            with shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # sizes may be equal by chance
                return self._function(*inputs)
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._function(*inputs)

    def check(self, expected: tuple[float, float], got: tuple[float, float]) -> None:
        """`ModelError` unless a finite loss and the norm of its gradient are the same either way; once."""
        self.is_new = False
        for one, other in zip(expected, got, strict=True):
            if math.isfinite(one) and not abs(one - other) <= TOLERANCE * abs(one):
                raise ModelError(f"expected a loss and a gradient of {expected}, got {got}")


def reason(error: Exception) -> str:
    """The line of a compiler's error that says most."""
    if isinstance(error, HarmoseError):
        return str(error)
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'no message'}"[:200]
