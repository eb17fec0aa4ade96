"""Initial magnetic moments of SIESTA's atoms, as the input states them.

`DM.InitSpin` has rows of an atom, counted from 1, and its moment in Bohr magnetons; + and - mean the largest moment, and atoms
without a row have none. Without the block all atoms begin with the largest moment up, with `DM.InitSpin.AF true` every second
atom down. How large that is depends on the pseudopotential: here it is 1. Moments of non-collinear runs are not read.
"""

import re

import numpy as np

from harmose.io.siesta.run import Run, input_lines, plain_name

TRUE = ("true", "t", ".true.", "yes", "y")


def initial_moments(run: Run, n_atoms: int) -> np.ndarray | None:
    """Return the initial moment of each atom (N,) of a collinear run; None where its input is not known as a whole.

    That is an input that includes others, none of the run's label, or one without the block that uses an older density matrix.
    """
    lines = input_lines(run)
    words_of = {plain_name(words[0]): words[1:] for words in lines}
    included = any(words[0].lower() == "%include" or "<" in words for words in lines)
    rows = _block(lines, "dminitspin")
    if not lines or included or (rows is None and _is_on(words_of, "dmusesavedm")):
        return None
    if rows is None:
        moments = np.ones(n_atoms)
        moments[1::2] = -1.0 if _is_on(words_of, "dminitspinaf") else 1.0
        return moments
    moments = np.zeros(n_atoms)
    for words in rows:
        value = {"+": 1.0, "-": -1.0}.get(words[1]) if len(words) > 1 else None
        if value is None and len(words) > 1 and re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?", words[1]):
            value = float(re.sub("[dD]", "e", words[1]))
        if value is None or not words[0].isdigit() or not 0 < int(words[0]) <= n_atoms:
            return None  # another form of the block, such as ranges of atoms
        moments[int(words[0]) - 1] = value
    return moments


def _is_on(words_of: dict[str, list[str]], name: str) -> bool:
    """True if a switch is on; a switch without a value is."""
    return name in words_of and (not words_of[name] or words_of[name][0].lower() in TRUE)


def _block(lines: list[list[str]], name: str) -> list[list[str]] | None:
    """Return the rows of a block, None without it."""
    rows: list[list[str]] | None = None
    inside = False
    for words in lines:
        if words[0].lower() in ("%block", "%endblock") and len(words) > 1:
            inside = words[0].lower() == "%block" and plain_name(words[1]) == name
            rows = [] if inside else rows
        elif inside and rows is not None:
            rows.append(words)
    return rows
