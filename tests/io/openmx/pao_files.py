"""Small `.pao` files of functions that are known."""

import gzip
from pathlib import Path

import numpy as np

CUTOFF = 5.0


def shape(r: np.ndarray, l: int, k: int, cutoff: float = CUTOFF) -> np.ndarray:
    """R of function k = 0, 1, ... in Bohr^(-3/2): r^l times a polynomial that ends without a kink, normalised."""
    fine = np.linspace(0, cutoff, 20001)

    def raw(r: np.ndarray) -> np.ndarray:
        return np.where(r < cutoff, r**l * np.abs(1 - (r / cutoff) ** 2) ** 4 * (1 - k * (r / 2) ** 2), 0.0)

    return raw(r) / np.sqrt(np.sum(raw(fine) ** 2 * fine**2) * fine[1])


def pao_text(
    number: float = 6, cutoff: float = CUTOFF, l_max: int = 2, multiplicity: int = 3, points: int = 600
) -> str:
    """The text of a file with the parts that OpenMX reads, and some that it does not."""
    x = np.linspace(-7.5, np.log(cutoff) + 0.15, points)
    r = np.exp(x)
    lines = ["number.optpao 1", "<Contraction.coefficients1", "  Atom=  1  L= 0  Mul= 0  p=  0   0.99",
             "Contraction.coefficients1>", f"AtomSpecies             {number:g}", f"num.pao   {multiplicity}",
             f"radial.cutoff.pao     {cutoff}          # default=5.0 (Bohr)", f"PAO.Lmax   {l_max}",
             f"PAO.Mul    {multiplicity}"]  # fmt: skip
    for l in range(l_max + 1):
        table = np.column_stack([x, r, *(shape(r, l, k, cutoff) for k in range(multiplicity))])
        lines += [f"<pseudo.atomic.orbitals.L={l}", *(" ".join(f"{v:.15f}" for v in row) for row in table)]
        lines += [f"pseudo.atomic.orbitals.L={l}>"]
    return "\n".join(lines) + "\n"


def write_pao(path: Path, **settings) -> Path:
    """Write a file; compressed, if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pao_text(**settings).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
