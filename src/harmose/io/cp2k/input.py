"""Settings of a CP2K calculation of a crystal, and its input file.

    &GLOBAL ... &END    &FORCE_EVAL  &DFT ... &END  &SUBSYS ... &END  &END

The calculation uses Gaussian and plane waves (GPW), a Monkhorst-Pack mesh, diagonalization, Broyden mixing and
Fermi-Dirac smearing. CP2K writes H and S in real space, and `io.cp2k.cp2k` reads them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from harmose.errors import LabellingError
from harmose.io.cp2k.basis_data import Kind

PROJECT = "harmose"
"""Prefix of the names of all files of a run."""

FUNCTIONALS: dict[str, tuple[dict, str]] = {
    "pbe": ({"PBE": {}}, "GTH-PBE"),
    "pbesol": ({"PBE": {"PARAMETRIZATION": "PBESOL"}}, "GTH-PBE"),
    "revpbe": ({"PBE": {"PARAMETRIZATION": "REVPBE"}}, "GTH-PBE"),
    "blyp": ({"BECKE88": {}, "LYP": {}}, "GTH-BLYP"),
    "lda": ({"PADE": {}}, "GTH-PADE"),
}
"""CP2K's sections of each functional, and its GTH potentials (for PBEsol and revPBE those of PBE)."""

ZERO = 1e-13
"""Smaller elements (Hartree) are not written. Without this threshold CP2K writes a full matrix for every image."""


@dataclass(frozen=True)
class CP2KSettings:
    """Settings of a restricted Kohn-Sham calculation of a crystal: everything that its numbers depend on.

    Raises `LabellingError` for an unknown functional and for invalid values.

    Attributes:
        functional: one of `FUNCTIONALS`.
        basis: name of the basis set in CP2K's data files.
        potential: name of the potential in CP2K's data files. Default: the GTH potential of the functional.
        cutoff, rel_cutoff: cutoffs of the plane-wave grids (Rydberg).
        kmesh: divisions of the reciprocal lattice vectors. Default: from `k_spacing`.
        k_spacing: largest distance of neighbouring k-points (1/angstrom, with 2 pi).
        smearing: electronic temperature (K).
        eps_default: precision of integrals.
        eps_scf: convergence of the density.
        max_cycle: maximum number of SCF steps.
        pair_cutoff: blocks of atoms farther apart (angstrom) are dropped.
        max_dropped: a structure with a larger dropped element of H (eV) is refused.
    """

    functional: str = "pbe"
    basis: str = "DZVP-MOLOPT-SR-GTH"
    potential: str | None = None
    cutoff: float = 320.0
    rel_cutoff: float = 40.0
    kmesh: tuple[int, int, int] | None = None
    k_spacing: float | None = 0.25
    smearing: float = 300.0
    eps_default: float = 1e-10
    eps_scf: float = 1e-6
    max_cycle: int = 100
    pair_cutoff: float = 9.0
    max_dropped: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "functional", self.functional.strip().lower())
        if self.functional not in FUNCTIONALS:
            names = ", ".join(FUNCTIONALS)
            raise LabellingError(f"functional: expected one of {names} for CP2K, got {self.functional!r}")
        object.__setattr__(self, "basis", self.basis.strip().upper())
        object.__setattr__(self, "potential", (self.potential or FUNCTIONALS[self.functional][1]).strip().upper())
        if self.kmesh is not None:
            object.__setattr__(self, "kmesh", _checked_mesh(self.kmesh))
            object.__setattr__(self, "k_spacing", None)
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not 0 < value < float("inf"):
                raise LabellingError(f"{name}: expected a positive number, got {value}")
            if isinstance(value, int) and name != "max_cycle":
                object.__setattr__(self, name, float(value))  # so that 300 and 300.0 are equal as JSON too

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, with the name of the code."""
        return {"code": "cp2k", **asdict(self), "kmesh": None if self.kmesh is None else list(self.kmesh)}


def _checked_mesh(mesh: Any) -> tuple[int, int, int]:
    try:
        whole = tuple(int(n) for n in mesh)
    except (TypeError, ValueError):
        whole = ()
    if len(whole) != 3 or any(n < 1 for n in whole) or list(whole) != list(mesh):
        raise LabellingError(f"kmesh: expected three whole numbers from 1 upward, got {mesh!r}")
    return whole


def mesh_of(atoms: Atoms, settings: CP2KSettings) -> tuple[int, int, int]:
    """Return the divisions (3) of the reciprocal lattice vectors: 1 along directions that are not periodic."""
    if settings.kmesh is not None or settings.k_spacing is None:
        return settings.kmesh or (1, 1, 1)
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    n = np.where(atoms.pbc, np.ceil(np.round(lengths / settings.k_spacing, 6)), 1).astype(int)
    return tuple(np.maximum(n, 1).tolist())


def input_file(atoms: Atoms, settings: CP2KSettings, kinds: Mapping[int, Kind]) -> str:
    """Return the text of CP2K's input for a single point of the crystal `atoms`, with H and S written in real space.

    `kinds` are basis set and potential of each atomic number (`basis_data.find_kinds`). CP2K repeats all three directions,
    so a direction that is not periodic in `atoms` needs vacuum along its lattice vector.
    """
    tree = {
        "GLOBAL": {"PROJECT": PROJECT, "RUN_TYPE": "ENERGY", "PRINT_LEVEL": "MEDIUM"},
        "FORCE_EVAL": {"METHOD": "QS", "DFT": _dft(atoms, settings, kinds), "SUBSYS": _subsys(atoms, kinds)},
    }
    return "\n".join(_lines(tree)) + "\n"


def _dft(atoms: Atoms, settings: CP2KSettings, kinds: Mapping[int, Kind]) -> dict[str, Any]:
    functional, _ = FUNCTIONALS[settings.functional]
    mesh = " ".join(map(str, mesh_of(atoms, settings)))
    matrices = {"REAL_SPACE": "T", "BINARY": "T", "THRESHOLD": ZERO}
    return {
        "BASIS_SET_FILE_NAME": sorted({kind.basis_file for kind in kinds.values()}),
        "POTENTIAL_FILE_NAME": next(kind.potential_file for kind in kinds.values()),
        "QS": {"EPS_DEFAULT": settings.eps_default},
        "MGRID": {"CUTOFF": settings.cutoff, "REL_CUTOFF": settings.rel_cutoff},
        "XC": {"XC_FUNCTIONAL": functional},
        "SCF": {
            "EPS_SCF": settings.eps_scf,
            "MAX_SCF": settings.max_cycle,
            "SCF_GUESS": "ATOMIC",
            "ADDED_MOS": -1,
            "DIAGONALIZATION": {},
            "MIXING": {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.5, "BETA": 0.3},
            "SMEAR": {"METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": settings.smearing},
            "PRINT": {"RESTART OFF": {}},
        },
        "KPOINTS": {"SCHEME": f"MONKHORST-PACK {mesh}", "SYMMETRY": "F", "FULL_GRID": "F"},
        "PRINT": {"KS_CSR_WRITE": matrices, "S_CSR_WRITE": matrices},
    }


def _subsys(atoms: Atoms, kinds: Mapping[int, Kind]) -> dict[str, Any]:
    symbols = atoms.get_chemical_symbols()
    rows = zip(symbols, atoms.positions.tolist(), strict=True)
    sections: dict[str, Any] = {
        "CELL": {name: _numbers(row) for name, row in zip("ABC", atoms.cell.array.tolist(), strict=True)},
        "COORD": {"": [f"{symbol} {_numbers(row)}" for symbol, row in rows]},
    }
    sections["CELL"]["PERIODIC"] = "XYZ"
    for z, kind in kinds.items():
        symbol = symbols[int(np.argmax(atoms.numbers == z))]
        sections[f"KIND {symbol}"] = {"BASIS_SET": kind.basis, "POTENTIAL": kind.potential}
    return sections


def _numbers(row: list[float]) -> str:
    return " ".join(f"{x:.14f}" for x in row)


def _lines(tree: Mapping[str, Any], indent: str = "") -> list[str]:
    """Return the lines of a tree. Sections are mappings; a list repeats its keyword; the keyword "" is left out."""
    out = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out += [f"{indent}&{name}", *_lines(value, indent + "  "), f"{indent}&END {name.split()[0]}"]
        else:
            out += [indent + f"{name} {v}".strip() for v in (value if isinstance(value, list) else [value])]
    return out
