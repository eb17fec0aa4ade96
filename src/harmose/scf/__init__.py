"""PySCF started from a prediction. `harmose.pyscf` is the module `harmose.scf.initial_guess`."""

from harmose.scf import initial_guess as pyscf

__all__ = ["pyscf"]
