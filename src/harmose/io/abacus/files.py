"""The files of an ABACUS run: which folder holds the matrices, and their names in each version.

    old    data-HR-sparse_SPIN0.csr, data-HR-sparse_SPIN1.csr    data-SR-sparse_SPIN0.csr    (get_s: SR.csr)
    new    hrs1_nao.csr, hrs2_nao.csr                            srs1_nao.csr or sr_nao.csr
    3.11   hrs1g1_nao.csr, hrs2g1_nao.csr                        srg1_nao.csr                with out_app_flag 0

The number after g counts geometries from 1. The folder is `OUT.` and the `suffix` of the input.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from harmose.errors import FormatError

HAMILTONIAN = re.compile(r"hrs(?P<spin>[12])(?:g(?P<step>\d+))?_nao\.csr|data-HR-sparse_SPIN(?P<old>[01])\.csr")
OVERLAP = re.compile(r"srs?1?(?:g(?P<step>\d+))?_nao\.csr|data-SR-sparse_SPIN0\.csr|SR\.csr")
OTHER_KINDS = re.compile(r"hrs[12](?:g\d+)?_nao\.(?:dat|npz)|data-HR-sparse_SPIN[01]\.dat")
"""H in files that are not text."""

SWITCH = "out_mat_hs2 1 (from version 3.11 on also: out_hsr 1), basis_type lcao and calculation scf"
"""Parameters of `INPUT` with which ABACUS writes H(R) and S(R)."""


@dataclass(frozen=True)
class Matrices:
    """Files of H (one, or up and down) and of S, if there is one."""

    hamiltonian: tuple[Path, ...]
    overlap: Path | None


def is_abacus(path: Path) -> bool:
    """True for a folder with H of ABACUS, or above one `OUT.*` folder with it."""
    return len(output_folders(path)) == 1


def is_abacus_overlap(path: Path) -> bool:
    """True for a folder with S of ABACUS, or above one `OUT.*` folder with it."""
    return len(output_folders(path, OVERLAP)) == 1


def output_folders(path: Path, kind: re.Pattern[str] = HAMILTONIAN) -> list[Path]:
    """Return `path` and the `OUT.*` folders in it, as far as they hold H, or S for the kind `OVERLAP`."""
    if not path.is_dir():
        return []
    return [folder for folder in (path, *_outputs(path)) if _named(folder, kind)]


def output_folder(path: Path, kind: re.Pattern[str] = HAMILTONIAN) -> Path:
    """Return the one folder that holds H, or S; `FormatError` if there is none or several."""
    found = output_folders(path, kind)
    if len(found) > 1:
        raise FormatError(f"{path}: expected one OUT.* folder of ABACUS, got {', '.join(f.name for f in found)}")
    if not found:
        letter = "H" if kind is HAMILTONIAN else "S"
        raise FormatError(
            missing_matrices(path)
            or f"{path}: expected an OUT.* folder of ABACUS with {letter}(R) as hrs1_nao.csr or data-HR-sparse_SPIN0.csr "
            f"({SWITCH}), got none"
        )
    return found[0]


def missing_matrices(path: Path) -> str | None:
    """Return what to switch on, for the folder of an ABACUS run without H as text, or of its input alone; None for other folders."""
    if not path.is_dir():
        return None
    for folder in (path, *_outputs(path)):
        if any(folder.glob("running_*.log")) and not _named(folder, HAMILTONIAN):
            other = next((file.name for file in sorted(folder.iterdir()) if OTHER_KINDS.fullmatch(file.name)), None)
            got = f"{other}, which is not text" if other else "a run without them"
            return f"{folder}: expected H(R) and S(R) of ABACUS as text, got {got}; set {SWITCH} in INPUT"
    if (path / "INPUT").is_file() and (path / "STRU").is_file() and not output_folders(path):
        return f"{path}: expected an OUT.* folder of ABACUS with H(R) and S(R) beside INPUT and STRU, got none; run ABACUS with {SWITCH}"
    return None


def matrices(folder: Path) -> Matrices:
    """Return the matrices of one geometry.

    `FormatError` for the steps of a trajectory, and for files of both old and new versions that might be of two runs.
    """
    found = {
        file.name: match for file in sorted(_named(folder, HAMILTONIAN)) if (match := HAMILTONIAN.fullmatch(file.name))
    }
    names = list(found)
    if len({match["old"] is None for match in found.values()}) > 1:
        raise FormatError(
            f"{folder}: expected the matrices of one run, got those of an old and a new version of ABACUS "
            f"({', '.join(names)}); remove those of the other run"
        )
    steps = {found[name]["step"] for name in names}
    if len(steps) > 1:
        raise FormatError(
            f"{folder}: expected the matrices of one geometry, got those of {len(steps)} steps ({', '.join(names[:3])}); "
            "run calculation scf for each"
        )
    return Matrices(tuple(folder / name for name in names), overlap_file(folder, *steps))


def overlap_file(folder: Path, step: str | None = None) -> Path | None:
    """Return the file of S, that of new versions first; of this step if it is given."""
    found = {file.name: match for file in _named(folder, OVERLAP) if (match := OVERLAP.fullmatch(file.name))}
    of_step = [name for name, match in found.items() if match["step"] in (step, None)]
    order = sorted(of_step, key=lambda name: (name.startswith(("data", "SR")), found[name]["step"] != step, name))
    return folder / order[0] if order else None


def _outputs(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob("OUT.*") if folder.is_dir())


def _named(folder: Path, kind: re.Pattern[str]) -> list[Path]:
    return [file for file in folder.iterdir() if kind.fullmatch(file.name)]
