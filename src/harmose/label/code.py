"""The interface of a DFT code that labels structures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ase import Atoms

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample


class Settings(Protocol):
    """Settings of a calculation, a frozen dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; "code" is the name of the code."""
        ...


@dataclass(frozen=True)
class Code:
    """A DFT code, as functions that raise `HarmoseError` with one line.

    Attributes:
        name: name in `harmose label --code`.
        settings: type of its settings.
        check_installed: raises unless the code is installed.
        check: raises for a structure (first argument) that the code cannot calculate with these settings.
        basis: basis set of these atomic numbers.
        calculate: sample of one structure, in this basis set and with this name, on one thread.
        remark: a line to print before the calculations, or None.
        limits: names of the settings that decide only when a calculation is given up.
    """

    name: str
    settings: type
    check_installed: Callable[[], None]
    check: Callable[[Atoms, Any], None]
    basis: Callable[[Iterable[int], Any], BasisSet]
    calculate: Callable[[Atoms, Any, BasisSet, str], Sample]
    remark: Callable[[Any], str | None]
    limits: frozenset[str]

    def identity(self, settings: Settings) -> dict[str, Any]:
        """All settings that a converged result depends on, as JSON values."""
        return {key: value for key, value in settings.to_dict().items() if key not in self.limits}
