"""The `.out` file of OpenMX: version, energy, and whether the SCF converged."""

import re
from dataclasses import dataclass
from pathlib import Path

TITLE = "This calculation was performed by OpenMX"
"""Text in the first lines of every `.out`."""

PRINTED = 1e-12
"""Last digit (Hartree) of energies in `.out`."""

NUMBER = r"[-+]?\d+\.\d+(?:[Ee][-+]?\d+)?"


@dataclass(frozen=True)
class Log:
    """Content of a `.out` file; energies in Hartree, None for what it does not say.

    Attributes:
        text: the file.
        version: version of OpenMX.
        fermi_level: chemical potential.
        energy: total energy.
        history: residual NormRD and band energy Uele of each step of the last SCF.
    """

    text: str
    version: str | None
    fermi_level: float | None
    energy: float | None
    history: list[tuple[float, float]]

    def converged(self, criterion: float, max_steps: int) -> bool | None:
        """Return whether the last SCF converged, None if its steps are not listed.

        OpenMX ends when Uele changes by less than `criterion` (scf.criterion) and NormRD is below ten times that. NormRD is
        asked for only after `max_steps` (scf.maxIter) steps: an SCF that ended before has passed OpenMX's own test.
        """
        if not self.history:
            return None
        if len(self.history) < 2:
            return False
        residual, change = self.history[-1][0], abs(self.history[-1][1] - self.history[-2][1])
        steady = len(self.history) < max_steps or residual < 10 * criterion + PRINTED
        return change < criterion + PRINTED and steady


def read_log(path: Path) -> Log | None:
    """Read a `.out` file; None if there is none, or another program's."""
    if not path.is_file():
        return None
    text = path.read_text(errors="replace")
    if TITLE not in text[:2000]:
        return None
    last = text[max(text.rfind("SCF history at MD="), 0) :]
    history = re.findall(rf"SCF= *\d+ +NormRD= *({NUMBER}) +Uele= *({NUMBER})", last)
    return Log(
        text=text,
        version=_last(r"performed by OpenMX Ver\. *(\S+)", text),
        fermi_level=_number(rf"Chemical potential \(Hartree\) +({NUMBER})", last),
        energy=_number(rf"^ *Utot\. +({NUMBER})", last),
        history=[(float(residual), float(energy)) for residual, energy in history],
    )


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text, re.MULTILINE)
    return found[-1] if found else None


def _number(pattern: str, text: str) -> float | None:
    word = _last(pattern, text)
    return None if word is None else float(word)
