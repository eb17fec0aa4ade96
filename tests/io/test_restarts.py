"""SCF restarts: which samples a code can start from."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.errors import FormatError, MatrixError
from harmose.io.assembly import zeros
from harmose.io.restarts import write_restart

ATOMS = Atoms("H", [[0.1, 0.2, 0.3]], cell=[3, 3, 3], pbc=True)


def sample_of(name: str, **provenance) -> Sample:
    basis = BasisSet(name, {1: (Shell(1, 0),)}, {1: 1.0})
    one = zeros(ATOMS, basis)
    one = one.with_values(np.ones_like(one.values))
    return Sample("s", ATOMS, basis, one, overlap=one, n_electrons=1.0, provenance=provenance)


@pytest.mark.parametrize(
    ("sample", "code", "own"),
    [
        (sample_of("siesta", code="siesta"), "cp2k", "siesta"),
        (sample_of("openmx", code="openmx"), "cp2k", "openmx"),
        (sample_of("openmx", code="openmx"), "siesta", "openmx"),
        (sample_of("DZVP-MOLOPT-SR-GTH", code="cp2k"), "siesta", "cp2k"),
        (sample_of("def2-svp", code="pyscf"), "siesta", "pyscf"),
        (sample_of("abacus"), "siesta", "abacus"),
        (sample_of("DZVP-MOLOPT-SR-GTH"), "siesta", "cp2k"),
    ],
)
def test_basis_set_of_another_code(tmp_path, sample, code, own):
    """A density matrix between other orbitals is no start, though its file could be written."""
    with pytest.raises(
        FormatError, match=rf"^sample s: expected the basis set of a run of {code}, got .* of {own}; the run"
    ):
        write_restart(tmp_path / "x", sample, code, (1, 1, 1))
    assert not (tmp_path / "x").exists()


def test_own_or_unknown_code_passes(tmp_path):
    for sample in (sample_of("DZVP-MOLOPT-SR-GTH", code="cp2k"), sample_of("sto-3g", code="pyscf"), sample_of("mine")):
        write_restart(tmp_path / "x-RESTART.kp", sample, "cp2k", (1, 1, 1))
    with pytest.raises(MatrixError, match="number of electrons"):  # the next check
        write_restart(tmp_path / "x", replace(sample_of("siesta", code="siesta"), n_electrons=None), "siesta")
