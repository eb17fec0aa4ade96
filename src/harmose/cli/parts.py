"""How commands predict: a structure as a whole or in parts, in a given memory (`harmose.inference.partition`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmose.errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.console import Console

    from harmose.core.blocks import BlockMatrix
    from harmose.core.sample import Sample
    from harmose.uncertainty.prediction import Uncertainty


@dataclass
class Predictor:
    """The options of a prediction, as they were given; `folder` for what does not fit into memory."""

    partition: str = "auto"
    memory: str | None = None
    scheduler: str | None = None
    stage: str = "full"
    folder: Path | None = None
    console: "Console | None" = None
    in_parts: bool = False
    """Whether the last structure was predicted in parts."""

    def __post_init__(self) -> None:
        if self.partition not in ("auto", "off") and not (self.partition.isdecimal() and int(self.partition) > 0):
            raise ConfigError(f"--partition: expected auto, off or a number of pairs, got {self.partition!r}")
        if self.stage not in ("full", "stage1"):
            raise ConfigError(f"--stage: expected full or stage1, got {self.stage!r}")
        self.bytes = None if self.memory is None else _bytes(self.memory)

    def predict(self, model: Any, atoms: "Atoms") -> "BlockMatrix":
        """H in eV."""
        from harmose.inference.partition.predict import predict

        self.in_parts = False
        size: Any = self.partition if self.partition in ("auto", "off") else int(self.partition)
        return predict(model, atoms, size, self.bytes, self.stage, self.scheduler, self.folder, self._tell)

    def bounds_of(self, model: Any, sample: "Sample") -> "Uncertainty | None":
        """Of a predicted sample; None for a model that states none, for stage 1 alone and for one predicted in parts."""
        if self.stage != "full" or self.in_parts:
            return None
        return model.bounds_many([sample.structure], None, [sample.overlap], [sample.hamiltonian])[0]

    def _tell(self, plan: str) -> None:
        self.in_parts = True
        if self.console is not None:
            self.console.print(plan, markup=False, soft_wrap=True)


def _bytes(text: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    from harmose.train.config import Bytes

    try:
        return TypeAdapter(Bytes).validate_python(text)
    except ValidationError:
        raise ConfigError(f"--memory: expected a quantity like 500MB or 12GB, got {text!r}") from None
