"""DFT codes that label structures: what `harmose.label.label` needs to know of each, and the table of them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from harmose.errors import LabellingError
from harmose.label.code import Code, Settings
from harmose.label.cp2k import CP2K
from harmose.label.pyscf import PYSCF

CODES: dict[str, Code] = {code.name: code for code in (PYSCF, CP2K)}
"""By name, as `harmose label --code` takes them."""


def code_of(settings: Settings) -> Code:
    """The code whose settings these are."""
    for code in CODES.values():
        if isinstance(settings, code.settings):
            return code
    raise LabellingError(f"expected settings of one of {', '.join(CODES)}, got {type(settings).__name__}")


def settings_for(name: str, given: Mapping[str, Any]) -> Settings:
    """The settings of the code `name` with what is given; `LabellingError` for an unknown code or one without these."""
    if name not in CODES:
        raise LabellingError(f"code: expected one of {', '.join(CODES)}, got {name!r}")
    settings = CODES[name].settings
    unknown = sorted(set(given) - {field.name for field in fields(settings)})
    if unknown:
        raise LabellingError(f"{name} has no {', '.join(unknown)}: not an option of this code")
    return settings(**given)


__all__ = ["CODES", "Code", "Settings", "code_of", "settings_for"]
