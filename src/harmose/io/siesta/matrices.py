"""Read SIESTA's HSX and TSHS files by sisl, and its netCDF file without it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lazy_loader
import numpy as np

from harmose.core.basis import Shell
from harmose.errors import FormatError
from harmose.io.siesta.basis import Species
from harmose.io.siesta.files import Header, readable
from harmose.io.siesta.netcdf import read_netcdf
from harmose.io.siesta.run import Run
from harmose.io.siesta.stored import Stored, known
from harmose.spin import Spin
from harmose.units import RYDBERG

sisl = lazy_loader.load("sisl")  # imported on first use


def read_matrices(run: Run) -> Stored:
    """Read the run's file with H and S; `FormatError` for one that is damaged or of another kind."""
    if run.matrix.suffix == ".nc":
        return read_netcdf(run.matrix)
    with readable(run.matrix) as (file, header):
        return _read(file, run, header)


def needed(run: Run, ending: str) -> Path:
    """Return the path of a file of the run; `FormatError` if it is not there."""
    path = run.beside(ending)
    if not path.is_file():
        raise FormatError(
            f"{run.matrix}: expected {path.name} beside it, since this kind of file does not name the atoms"
        )
    return path


def _read(file: Path, run: Run, header: Header) -> Stored:
    is_hsx = run.matrix.suffix == ".HSX"
    old = is_hsx and header.version == 0
    try:
        # sisl warns about normal content of older files, and its own code makes numpy warn.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The oldest files have relative positions only.
            geometry = {"geometry": sisl.get_sile(needed(run, ".XV")).read_geometry()} if old else {}
            sile = (sisl.io.siesta.hsxSileSiesta if is_hsx else sisl.io.siesta.tshsSileSiesta)(file)
            operator = sile.read_hamiltonian(dtype=np.float64, **geometry)
            # sisl has moved H by this level, which is 0 where the file has none.
            moved = 0.0 if old else known(float(sile.read_fermi_level())) or 0.0
            # Not from the operator: there the oldest files have lost their atoms.
            atoms = sile.read_basis().atom if is_hsx else None
        return _stored(operator, atoms, moved, header)
    except FormatError:
        raise
    except Exception:
        # sisl raises many types of errors for damaged files.
        raise FormatError(
            f"{run.matrix}: expected H and S of SIESTA, got a damaged file, which sisl cannot read; copy it again, or run SIESTA again"
        ) from None


def _stored(operator: Any, atoms: Sequence[Any] | None, moved: float, header: Header) -> Stored:
    geometry, spin = operator.geometry, operator.spin
    coo = operator.tocsr(0).tocoo()
    n = geometry.no
    parts = [operator.tocsr(k).data for k in range(operator.shape[2])]
    s = parts.pop() if not operator.orthogonal else ((coo.row == coo.col) * 1.0)
    if spin.is_noncolinear or spin.is_spinorbit:
        h, kind = _spinor(parts), Spin.SPINOR
    elif spin.is_polarized or spin.is_unpolarized:
        h, kind = np.stack(parts), Spin.COLLINEAR if spin.is_polarized else Spin.NONE
    else:
        raise FormatError(f"expected H without Nambu components, got spin {spin}")
    h[[0, -1]] = h[[0, -1]] + moved * s  # uu and dd, up and down, or the only component
    level = None if header.fermi_level is None else known(header.fermi_level)
    written_by_sisl = header.fermi_level == 0.0  # its number of electrons is a placeholder too
    return Stored(
        positions=geometry.xyz,
        cell=geometry.cell,
        n_cells=np.asarray(geometry.nsc),
        species=[Species(atom.tag, _shells(atom)) for atom in atoms] if atoms is not None else None,
        species_of_atom=np.asarray(geometry.atoms.species),
        counts=np.asarray(geometry.orbitals),
        rows=coo.row,
        cols=coo.col % n,
        cells=geometry.sc_off[coo.col // n],
        h=h,
        s=s,
        spin=kind,
        fermi_level=None if level is None else level * RYDBERG,
        n_electrons=None if written_by_sisl else known(header.n_electrons),
        has_fermi_level=header.fermi_level is not None,
    )


def _spinor(parts: list[np.ndarray]) -> np.ndarray:
    """sisl's real components Re uu, Re dd, Re ud, Im ud (, Im uu, Im dd, Re du, Im du) -> uu, ud, du, dd."""
    up_down = parts[2] + 1j * parts[3]
    if len(parts) == 4:
        return np.stack([parts[0] + 0j, up_down, up_down.conj(), parts[1] + 0j])
    return np.stack([parts[0] + 1j * parts[4], up_down, parts[6] + 1j * parts[7], parts[1] + 1j * parts[5]])


def _shells(atom: Any) -> tuple[Shell, ...]:
    return tuple(Shell(int(o.n), int(o.l), int(o.zeta)) for o in atom.orbitals if o.m == -o.l)
