"""The `.Band` file of OpenMX: the bands that the code computed along its own path.

n_bands, 1 for collinear spins, else 0, chemical potential (Hartree)
reciprocal lattice vectors (9 numbers, 1/bohr)
number of parts of the path, and one line for each: number of k-points, first k, last k, their names
for each k-point, and for collinear spins for up and down in turn:
    n_bands, k (3 fractions)
    n_bands energies (Hartree), ascending
"""

from pathlib import Path

import numpy as np

from harmose.errors import FormatError
from harmose.physics.bands import Bands
from harmose.spin import Spin
from harmose.units import BOHR, HARTREE


def read_band_file(path: str | Path, spinor: bool = False) -> Bands:
    """Read the bands of a `.Band` file, with the chemical potential as the Fermi level.

    Args:
        path: the file.
        spinor: True for a non-collinear run, whose file is like one without spin.

    Returns:
        `Bands` in eV with OpenMX's energy zero, that of H. A special point where two parts of the path meet is there twice.

    Raises:
        FormatError: the file cannot be read or is cut off.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        n_bands, level = int(lines[0].split()[0]), float(lines[0].split()[2])
        reciprocal = np.array(lines[1].split(), dtype=float).reshape(3, 3)
        parts = [line.split() for line in lines[3 : 3 + int(lines[2])]]
        rows = [line.split() for line in lines[3 + len(parts) :] if line.strip()]
        k = np.array([row[1:4] for row in rows[::2]], dtype=float).reshape(-1, 3)
        energies = np.array(rows[1::2], dtype=float).reshape(len(k), n_bands) * HARTREE
        spin = Spin.COLLINEAR if lines[0].split()[1] == "1" else Spin.SPINOR if spinor else Spin.NONE
        n_k, names = [int(part[0]) for part in parts], [part[-2:] for part in parts]
    except OSError as error:
        raise FormatError(f"{path}: the bands of OpenMX cannot be read ({error.strerror})") from None
    except (ValueError, IndexError) as error:
        raise FormatError(
            f"{path}: expected the bands of OpenMX, whole, got another file or a part ({error})"
        ) from None
    if spin is Spin.COLLINEAR:
        k, energies = k[::2], energies.reshape(len(k) // 2, 2, n_bands).swapaxes(0, 1)
    if len(k) != sum(n_k):
        raise FormatError(f"{path}: expected {sum(n_k)} k-points, got {len(k)}")
    x = _length(k, reciprocal / BOHR, n_k)
    last = np.cumsum(n_k) - 1
    labels = (names[0][0], *(name for _, name in names)) if names else ()
    return Bands(k, x, np.array([0.0, *x[last]]), labels, energies, spin, level * HARTREE)


def _length(k: np.ndarray, reciprocal: np.ndarray, n_k: list[int]) -> np.ndarray:
    """Length of the path (1/angstrom) up to each k-point; nothing is added from one part to the next."""
    step = np.linalg.norm(np.diff(k @ reciprocal, axis=0, prepend=k[:1] @ reciprocal), axis=1)
    step[np.cumsum([0, *n_k])[:-1]] = 0.0
    return np.cumsum(step)
