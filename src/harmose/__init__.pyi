# The public names. `harmose/__init__.py` reads this file at run time and imports each name from here on its first use;
# type checkers and editors read it too.
from . import testing as testing
from .core.basis import BasisSet as BasisSet
from .core.basis import Shell as Shell
from .core.blocks import BlockMatrix as BlockMatrix
from .core.sample import Sample as Sample
from .data.store import Store as Store
from .errors import HarmoseError as HarmoseError
from .inference.checkpoint import load as load
from .inference.model import Model as Model
from .io.basis_sets import basis as basis
from .io.basis_sets import overlap as overlap
from .io.files import read as read
from .io.files import read_all as read_all
from .io.files import read_overlap as read_overlap
from .io.files import write as write
from .io.restarts import write_restart as write_restart
from .io.sisl import to_sisl as to_sisl
from .physics.bands import bands as bands
from .physics.dos import dos as dos
from .physics.eigen import eigenvalues as eigenvalues
from .scf import pyscf as pyscf
from .spin import Spin as Spin
from .uncertainty.prediction import Uncertainty as Uncertainty

__version__: str
__all__: list[str]
