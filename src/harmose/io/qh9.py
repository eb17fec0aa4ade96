"""QH9 (Yu et al., arXiv 2306.09549): the orbital order of its matrices.

The published databases (`QH9Stable.db`, `QH9Dynamic_300k.db`: id, N, Z, pos, Ham) hold the Fock matrix as PySCF
returns it, in Hartree: def2-SVP, H s s p and C N O F s s s p p d, p as (x, y, z), d as m = -2..2. Their data loader
then turns p into (y, z, x) (`convention_dict["pyscf_def2svp"]`, inverse `"back2pyscf"`), which is the order inside
harmose. They name PySCF 2.2.1, whose B3LYP has VWN5 correlation: `b3lyp5`.
"""

from harmose.so3.conventions import Convention

QH9 = Convention("qh9", {1: (1, 2, 0)})
"""Matrices as stored in the databases."""

QH9_LOADER = Convention("qh9-loader", {})
"""Matrices as QH9's data loader and QHNet hand them out: the order inside."""
