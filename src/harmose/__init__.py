"""Kohn-Sham Hamiltonians of molecules and crystals from the atomic structure alone.

    sample = harmose.read("water-store", "water-0")      # structure, basis, hamiltonian, overlap, ...
    e = harmose.eigenvalues(sample.hamiltonian, sample.overlap)   # orbital energies in eV
    b = harmose.bands(sample.hamiltonian, sample.overlap, "GMKG", sample.structure)   # of a crystal
    model = harmose.load("runs/water")                   # folder of a training, or name of a shipped model
    h = model.predict(atoms)                             # BlockMatrix; structures of any size
    u = model.uncertainty(atoms)                         # the prediction with bounds: u.blocks, u.gap, u.outside
    mf = harmose.pyscf.start(mf, model)                  # PySCF, started from the prediction

`__init__.pyi` lists the public names and the modules that define them. A name is imported when it is first used, so that
`import harmose` is quick.
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    """Import the public name `name`."""
    if name == "predict":
        raise AttributeError("harmose has no function predict: use harmose.load(...).predict(atoms), for any size")
    return _import(name)
