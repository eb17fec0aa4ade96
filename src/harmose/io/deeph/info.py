"""`info.json` of DeepH's two formats."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from harmose.core.basis import LETTERS
from harmose.errors import FormatError
from harmose.spin import Spin


class Info:
    """The values of an `info.json`, checked when they are read."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise FormatError(f"{path}: no such file")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            raise FormatError(f"{path}: expected JSON, got something else; copy it again, or write it again") from None
        if not isinstance(values, dict):
            raise FormatError(f"{path}: expected a JSON object, got {type(values).__name__}")
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def number(self, key: str) -> float | None:
        """Return a number, or None if it is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise FormatError(f"{self.path}: {key}: expected a number or null, got {value!r}")
        return float(value)

    def fermi_level(self, key: str) -> float | None:
        """Return the Fermi level (eV). Exactly 0 is what converters write where they do not know it: None, unless harmose wrote it."""
        level = self.number(key)
        return None if level == 0 and not self.is_own else level

    @property
    def is_own(self) -> bool:
        """True if harmose wrote the file. It writes null for what it does not know."""
        return "harmose_spin" in self._values or "harmose_basis" in self._values

    def spin(self) -> Spin | None:
        """Return the spin kind of a file that harmose wrote; None if the file does not say."""
        value = self.get("harmose_spin")
        if value is None:
            return None
        if value not in tuple(Spin):
            raise FormatError(f"{self.path}: harmose_spin: expected one of {', '.join(Spin)}, got {value!r}")
        return Spin(value)

    def pbc(self) -> list[bool]:
        """Return the periodic directions (3,), which files of harmose say; the formats know crystals only."""
        value = self.get("harmose_pbc", [True] * 3)
        if not isinstance(value, list) or [type(one) for one in value] != [bool] * 3:
            raise FormatError(f"{self.path}: harmose_pbc: expected three times true or false, got {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false; a missing key is false."""
        value = self.get(key, False)
        if not isinstance(value, bool):
            raise FormatError(f"{self.path}: {key}: expected true or false, got {value!r}")
        return value


def checked_degrees(degrees: object, where: str) -> tuple[int, ...]:
    """Return the l of each shell of an element; `FormatError` unless they are integers from 0 to 6."""
    if not isinstance(degrees, list | tuple) or not degrees:
        raise FormatError(f"{where}: expected the list of l of an element's shells, got {degrees!r}")
    if not all(type(l) is int and 0 <= l < len(LETTERS) for l in degrees):
        raise FormatError(f"{where}: expected l = 0 to {len(LETTERS) - 1} for each shell, got {degrees!r}")
    return tuple(degrees)
