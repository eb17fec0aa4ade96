"""What a DFT code is to the engine that labels with it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample


class Settings(Protocol):
    """All that decides a calculation, as a frozen dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; "code" is the code's name."""
        ...


@dataclass(frozen=True)
class Code:
    """A DFT code: functions of its settings. All raise `HarmoseError`s of one line.

    ready(): is it installed? check(atoms, settings): can it take this structure? basis(elements, settings): its basis set
    for these atomic numbers. calculate(atoms, settings, basis, name): the sample, on one thread. remark(settings): a line
    to print beforehand, or nothing. `patience` names the settings that decide only when to give up.
    """

    name: str
    settings: type
    ready: Callable[[], None]
    check: Callable[[Atoms, Any], None]
    basis: Callable[[Iterable[int], Any], BasisSet]
    calculate: Callable[[Atoms, Any, BasisSet, str], Sample]
    remark: Callable[[Any], str | None]
    patience: frozenset[str]

    def identity(self, settings: Settings) -> dict[str, Any]:
        """The settings that decide a converged result: all but the patience."""
        return {key: value for key, value in settings.to_dict().items() if key not in self.patience}
