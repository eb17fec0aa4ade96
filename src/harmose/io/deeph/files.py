"""Which folders are DeepH's, with H or with S alone, and what others lack."""

from pathlib import Path

HAMILTONIANS = ("hamiltonian.h5", "hamiltonian_pred.h5")
"""H of today's format, from DFT and predicted by DeepH."""

LEGACY_HAMILTONIANS = ("hamiltonians.h5", "hamiltonians_pred.h5", "rh.h5", "rh_pred.h5")

DESCRIPTION = ("info.json", "orbital_types.dat", "site_positions.dat")
"""Files beside those matrices that recognise the first format."""

ALONE = "S alone can be handed to a prediction: harmose predict ... --overlap"


def is_deeph(path: Path) -> bool:
    return _is_described(path) and hamiltonian_file(path) is not None


def is_deeph_overlap(path: Path) -> bool:
    return _is_described(path) and (path / "overlap.h5").is_file()


def is_deeph_legacy(path: Path) -> bool:
    return _is_described_legacy(path) and any((path / name).is_file() for name in LEGACY_HAMILTONIANS)


def is_deeph_legacy_overlap(path: Path) -> bool:
    return _is_described_legacy(path) and (path / "overlaps.h5").is_file()


def hamiltonian_file(path: Path) -> Path | None:
    """Return the file of H, that of DFT first; None if there is none."""
    return next((path / name for name in HAMILTONIANS if (path / name).is_file()), None)


def missing_in_deeph(path: Path) -> str | None:
    """Return what a folder lacks of DeepH's format of today; None for other folders."""
    h = hamiltonian_file(path)
    if _is_described(path) and (path / "overlap.h5").is_file():
        return f"{path}: expected hamiltonian.h5 or hamiltonian_pred.h5, got a folder without H ({ALONE})"
    if h is not None and not is_deeph(path):
        lacking = " and ".join(name for name in ("POSCAR", "info.json") if not (path / name).is_file())
        return f"{h}: expected POSCAR, info.json and overlap.h5 of the structure beside it, got no {lacking}"
    return None


def missing_in_deeph_legacy(path: Path) -> str | None:
    """Return what a folder lacks of DeepH's first format; None for other folders."""
    if _is_described_legacy(path) and (path / "overlaps.h5").is_file():
        return f"{path}: expected hamiltonians.h5 or hamiltonians_pred.h5, got a folder without H ({ALONE})"
    h = next((name for name in LEGACY_HAMILTONIANS if (path / name).is_file()), None)
    # DeePTB's folders have files of these names too.
    is_near = h is not None and any((path / name).is_file() for name in DESCRIPTION[1:])
    if is_near and not _is_described_legacy(path):
        lacking = " and ".join(name for name in DESCRIPTION if not (path / name).is_file())
        return f"{path}: expected {lacking} of DeepH beside {h}, got none; copy it from the folder of the calculation"
    return None


def _is_described(path: Path) -> bool:
    return (path / "info.json").is_file() and (path / "POSCAR").is_file()


def _is_described_legacy(path: Path) -> bool:
    return all((path / name).is_file() for name in DESCRIPTION)
