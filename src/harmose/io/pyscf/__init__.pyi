from . import mean_field as mean_field
from . import pair_tables as pair_tables
from . import pyscf as pyscf
from . import radial as radial
from .mean_field import read_mean_field as read_mean_field
from .pyscf import PySCFSettings as PySCFSettings
from .pyscf import molecule as molecule
from .pyscf import prior as prior
