"""DFT codes that label structures. `harmose.label.label` runs them on many structures."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from harmose.errors import LabellingError
from harmose.label.code import Code, Settings
from harmose.label.cp2k import CP2K
from harmose.label.pyscf import PYSCF

CODES: dict[str, Code] = {code.name: code for code in (PYSCF, CP2K)}
"""All codes, by their names in `harmose label --code`."""


def code_of(settings: Settings) -> Code:
    """The code that has settings of this type."""
    for code in CODES.values():
        if isinstance(settings, code.settings):
            return code
    raise LabellingError(f"expected settings of one of {', '.join(CODES)}, got {type(settings).__name__}")


def settings_for(name: str, options: Mapping[str, Any]) -> Settings:
    """Settings of the code `name` with these options. Raises `LabellingError` for an unknown code or option."""
    if name not in CODES:
        raise LabellingError(f"code: expected one of {', '.join(CODES)}, got {name!r}")
    settings = CODES[name].settings
    unknown = sorted(set(options) - {field.name for field in fields(settings)})
    if unknown:
        raise LabellingError(f"{name} has no {', '.join(unknown)}: not an option of this code")
    return settings(**options)


__all__ = ["CODES", "Code", "Settings", "code_of", "settings_for"]
