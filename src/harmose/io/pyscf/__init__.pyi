from . import pyscf as pyscf
from . import radial as radial
from .pyscf import PySCFSettings as PySCFSettings
from .pyscf import molecule as molecule
from .pyscf import prior as prior
