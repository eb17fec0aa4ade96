"""Run CP2K, if it is installed, with inputs that also print bands; read the bands."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from harmose.io.cp2k.basis_data import find_kinds
from harmose.io.cp2k.input import CP2KSettings, input_file
from harmose.label.cp2k import PROGRAMS, data_folder, find_program

needs_cp2k = pytest.mark.skipif(
    not any(map(shutil.which, PROGRAMS)), reason="CP2K is not installed (apt install cp2k cp2k-data)"
)

BANDS = """
    &BAND_STRUCTURE
      FILE_NAME bands.bs
      ADDED_MOS -1
      &KPOINT_SET
        UNITS B_VECTOR
        SPECIAL_POINT G 0 0 0
        SPECIAL_POINT M 0.5 0 0
        SPECIAL_POINT X 0.125 0.25 0.375
        NPOINTS 1
      &END
    &END
"""


def hexagonal_bn(positions=((0.0, 1.44337567, 2.2), (1.25, 0.72168784, 2.3))) -> Atoms:
    return Atoms("BN", positions, cell=[[2.5, 0, 0], [-1.25, 2.1650635, 0], [0, 0, 9.0]], pbc=True)


def text(atoms: Atoms, settings: CP2KSettings, changes: dict[str, str] | None = None) -> str:
    """Return the input of `harmose label` with a band structure; `changes` are replacements."""
    kinds = find_kinds(set(atoms.numbers.tolist()), settings.basis, str(settings.potential), data_folder())
    out = input_file(atoms, settings, kinds).replace("      &KS_CSR_WRITE", BANDS + "      &KS_CSR_WRITE")
    for old, new in (changes or {}).items():
        assert old in out, old
        out = out.replace(old, new)
    return out


def run(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "harmose.inp").write_text(content)
    command = [find_program(), "-i", "harmose.inp", "-o", "harmose.out"]
    subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    return folder


def replace_in(path: Path, *changes: tuple[str, str]) -> None:
    """Replace pieces of a text file, each of which must occur."""
    content = path.read_text()
    for old, new in changes:
        assert old in content, old
        content = content.replace(old, new)
    path.write_text(content)


def bands(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read k-points (n_k, 3) and energies (n_spins, n_k, n_bands) in eV."""
    spins, kpoints, energies = [], [], []
    for line in (folder / "bands.bs").read_text().splitlines():
        words = line.split()
        if line.startswith("#  Point"):
            spins.append(int(words[4].strip(":")))
            kpoints.append([float(x) for x in words[5:8]])
            energies.append([])
        elif not line.startswith("#"):
            energies[-1].append(float(words[1]))
    spin = np.array(spins)
    table = np.array(energies)
    return np.array(kpoints)[spin == 1], np.array([table[spin == s] for s in range(1, spin.max() + 1)])
