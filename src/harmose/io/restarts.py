"""Density matrices from which other codes start their SCF: solve a stored or predicted H, and write the code's file.

The SCF's result does not depend on where it starts, only the number of its cycles does.
"""

from pathlib import Path
from typing import Literal, get_args

from harmose.core.sample import Sample
from harmose.errors import ConfigError, FormatError, MatrixError
from harmose.io.cp2k import restart as cp2k
from harmose.io.siesta import density as siesta
from harmose.physics.kmesh import KMesh, kmesh, mesh_size, monkhorst_pack_mesh
from harmose.physics.occupations import BOLTZMANN, FermiDirac

Code = Literal["cp2k", "siesta"]

NOT_WRITTEN = {
    "abacus": "ABACUS starts from the density on its grid (newer versions also from H(R), init_chg hr, which is not written)",
    "openmx": "OpenMX starts from files with the density on its grid",
    "aims": "restart files of FHI-aims are not written",
    "deeph": "DeepH is no DFT code",
    "pyscf": "PySCF starts from a prediction by harmose.pyscf.start(mf, model)",
}
"""Why there is no file for these codes."""

SAME_FUNCTIONS = {"cp2k": ("cp2k", "pyscf"), "siesta": ("siesta",)}
"""Codes whose samples may be in a basis set of the code that starts: CP2K and PySCF share sets of Gaussians."""

NUMERICAL = ("siesta", "openmx", "abacus", "aims")
"""Names of basis sets of numerical orbitals, each that of its code."""


def write_restart(
    path: str | Path,
    sample: Sample,
    code: Code,
    mesh: tuple[int, int, int] | None = None,
    temperature: float = 300.0,
    n_electrons: float | None = None,
    shifted: bool = False,
) -> None:
    """Write the density matrix of a sample's H as a file from which a DFT code starts its SCF.

    D(R) is the sum over the mesh of the states of H and S, occupied by Fermi and Dirac's function. It needs the structure,
    basis set, mesh and temperature of the run that starts from it; only the structure and the basis set must be the same.

    - `cp2k`: `PROJECT-RESTART.kp`, for runs with a KPOINTS section and `SCF_GUESS RESTART`.
    - `siesta`: `LABEL.DM`, for runs with `DM.UseSaveDM true`.

    Args:
        path: file to write; an existing one is replaced.
        sample: structure, H (eV) and S; spin none or collinear.
        code: "cp2k" or "siesta".
        mesh: size of the mesh of k-points. For CP2K it is that of MONKHORST-PACK, with Gamma in directions of odd size only;
            for SIESTA that of kgrid_Monkhorst_Pack with displacements 0.0. Default: from the cell.
        temperature: electronic temperature in K.
        n_electrons: electrons of a cell that the code treats. Default: those of the sample.
        shifted: displacements 0.5 in SIESTA's kgrid_Monkhorst_Pack.

    Raises:
        ConfigError: for an invalid mesh or temperature.
        FormatError: for another code; for a sample in the basis set of another code, where that is known; for a sample that
            the code's file cannot hold (a spinor; for CP2K a molecule without a cell, and atoms on the border of the cell);
            without sisl, which writes SIESTA's file.
        MatrixError: without S or the number of electrons.

    Examples:
        >>> import ase.build, harmose
        >>> layer = ase.build.graphene(a=2.46, vacuum=6.0)
        >>> layer.positions += (0.1, 0.2, -6.0)
        >>> h = harmose.load("graphene-pbe-dzvp").predict(layer)
        >>> s = harmose.overlap(layer, h.basis)
        >>> sample = harmose.Sample("layer", layer, h.basis, h, overlap=s, n_electrons=8)
        >>> harmose.write_restart("layer-RESTART.kp", sample, "cp2k", mesh=(3, 3, 1))
    """
    check_code(code)
    _check_basis(sample, code)
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"temperature: expected a positive number in K, got {temperature:g}")
    if shifted and code != "siesta":
        raise ConfigError("shifted: expected code siesta, got cp2k, whose MONKHORST-PACK meshes follow from their size")
    electrons = sample.n_electrons if n_electrons is None else n_electrons
    if electrons is None:
        raise MatrixError(
            f"sample {sample.name}: expected a number of electrons to occupy states with, got none: give it"
        )
    chosen = _mesh(sample, code, mesh, shifted)
    write = {"cp2k": cp2k.write_restart, "siesta": siesta.write_density}[code]
    write(path, sample, electrons, chosen, FermiDirac(temperature * BOLTZMANN))


def check_code(code: str) -> None:
    """Raise `FormatError` for a code whose SCF does not start from a density matrix in a file of a known format."""
    if code not in get_args(Code):
        reason = NOT_WRITTEN.get(code)
        raise FormatError(
            f"restart: expected {' or '.join(get_args(Code))}, got {code}" + (f"; {reason}" if reason else "")
        )


def _check_basis(sample: Sample, code: Code) -> None:
    """Raise `FormatError` for a sample whose orbitals the code's run cannot have; one whose code is not known passes."""
    own = _code_of(sample)
    if own is not None and own not in SAME_FUNCTIONS[code]:
        raise FormatError(
            f"sample {sample.name}: expected the basis set of a run of {code}, got {sample.basis.name} of {own}; the run "
            f"that starts must have the basis set of the sample, so there is no file for {code}"
        )


def _code_of(sample: Sample) -> str | None:
    """Return the code whose basis set a sample is in, by its provenance, else by the name of the basis set; None if unknown."""
    stated = sample.provenance.get("code")
    if isinstance(stated, str):
        return stated
    name = sample.basis.name.lower()
    if name in NUMERICAL:
        return name
    return "cp2k" if "molopt" in name or "-gth" in name else None


def _mesh(sample: Sample, code: Code, mesh: tuple[int, int, int] | None, shifted: bool) -> KMesh:
    if mesh is None:
        mesh = mesh_size(sample.structure) if sample.structure.pbc.any() else (1, 1, 1)
    return monkhorst_pack_mesh(mesh) if code == "cp2k" else kmesh(mesh, shifted)
