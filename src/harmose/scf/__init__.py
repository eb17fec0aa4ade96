"""PySCF started from a prediction; users reach `initial_guess` as `harmose.pyscf`."""

from harmose.scf import initial_guess as pyscf

__all__ = ["pyscf"]
