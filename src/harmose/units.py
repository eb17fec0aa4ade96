"""Units inside harmose are eV and angstrom; readers convert once, with these constants (CODATA 2018)."""

HARTREE = 27.211386245988
"""One Hartree in eV."""

RYDBERG = HARTREE / 2
"""One Rydberg in eV."""

BOHR = 0.529177210903
"""One Bohr radius in angstrom."""

MICRO_HARTREE = 1e-6 * HARTREE
"""One micro-Hartree in eV; the unit of molecular error tables."""

MEV = 1e-3
"""One milli-electronvolt in eV; the unit of error tables of crystals."""

ERROR_UNITS = {"uEh": MICRO_HARTREE, "meV": MEV, "eV": 1.0, "Ha": HARTREE}
"""Names that `--unit` accepts, each with its size in eV."""
