"""Kohn-Sham Hamiltonians of molecules and crystals from the atomic structure alone, in two stages.

    sample = harmose.read("water-store", "water-0")      # structure, basis, hamiltonian, overlap, ...
    e = harmose.eigenvalues(sample.hamiltonian, sample.overlap)   # eV
    b = harmose.bands(sample.hamiltonian, sample.overlap, "GMKG", sample.structure)   # of a crystal
    model = harmose.load("runs/water")                   # a training's folder, or the name of a shipped model
    h = model.predict(atoms)                             # BlockMatrix
    h = harmose.predict(model, atoms, memory=12e9)       # the same of 10,000 atoms, in parts
    u = model.uncertainty(atoms)                         # with bounds of its errors: u.blocks, u.gap, u.outside
    mf = harmose.pyscf.start(mf, model)                  # PySCF, started from the prediction

The names below are imported when they are first used, so that `import harmose` costs nothing.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmose.core.basis import BasisSet as BasisSet
    from harmose.core.basis import Shell as Shell
    from harmose.core.blocks import BlockMatrix as BlockMatrix
    from harmose.core.sample import Sample as Sample
    from harmose.data.store import Store as Store
    from harmose.errors import HarmoseError as HarmoseError
    from harmose.inference.checkpoint import load as load
    from harmose.inference.partition.predict import predict as predict
    from harmose.io.basis_sets import basis as basis
    from harmose.io.basis_sets import overlap as overlap
    from harmose.io.files import read as read
    from harmose.io.files import read_all as read_all
    from harmose.io.files import write as write
    from harmose.io.sisl import to_sisl as to_sisl
    from harmose.physics.bands import bands as bands
    from harmose.physics.dos import dos as dos
    from harmose.physics.eigen import eigenvalues as eigenvalues
    from harmose.scf import initial_guess as pyscf
    from harmose.spin import Spin as Spin
    from harmose.uncertainty.prediction import Uncertainty as Uncertainty

    __version__: str

_WHERE = {
    "read": "harmose.io.files",
    "read_all": "harmose.io.files",
    "write": "harmose.io.files",
    "to_sisl": "harmose.io.sisl",
    "load": "harmose.inference.checkpoint",
    "predict": "harmose.inference.partition.predict",
    "eigenvalues": "harmose.physics.eigen",
    "overlap": "harmose.io.basis_sets",
    "bands": "harmose.physics.bands",
    "dos": "harmose.physics.dos",
    "Sample": "harmose.core.sample",
    "BlockMatrix": "harmose.core.blocks",
    "BasisSet": "harmose.core.basis",
    "Shell": "harmose.core.basis",
    "Spin": "harmose.spin",
    "Store": "harmose.data.store",
    "HarmoseError": "harmose.errors",
    "Uncertainty": "harmose.uncertainty.prediction",
}

__all__ = [
    "read",
    "read_all",
    "write",
    "to_sisl",
    "load",
    "predict",
    "eigenvalues",
    "bands",
    "dos",
    "basis",
    "overlap",
    "Sample",
    "BlockMatrix",
    "BasisSet",
    "Shell",
    "Spin",
    "Store",
    "Uncertainty",
    "HarmoseError",
    "pyscf",
    "__version__",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module, metadata

    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name == "pyscf":
        return import_module("harmose.scf.initial_guess")
    if name == "__version__":
        try:
            return metadata.version("harmose")
        except metadata.PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module 'harmose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """`harmose.basis` is the function, although a module has the same name: its import must not take the place."""

    @property
    def basis(self) -> Any:
        from importlib import import_module

        return import_module("harmose.io.basis_sets").basis

    @basis.setter
    def basis(self, module: ModuleType) -> None:
        """What the import of `harmose.basis` would store here stays in `sys.modules`, where imports look for it."""


sys.modules[__name__].__class__ = _Package
