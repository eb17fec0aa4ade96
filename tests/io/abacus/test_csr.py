"""ABACUS's sparse matrices: complex values in other brackets, and damaged files."""

import re

import numpy as np
import pytest
from tests.io.abacus.abacus_runs import BASIS, crystal, csr_text, random_matrices, write_run

from harmose.errors import FormatError
from harmose.io.abacus.abacus import read_abacus
from harmose.io.abacus.csr import read_cell_matrices
from harmose.spin import Spin

CRYSTAL = crystal()


def test_complex_values_in_brackets_over_several_lines(tmp_path):
    h, s = random_matrices(CRYSTAL, Spin.SPINOR)
    out = write_run(tmp_path, CRYSTAL, h, s, new=True)
    text = (out / "hrs1_nao.csr").read_text()
    (out / "hrs1_nao.csr").write_text(re.sub(r"\((\S+?),(\S+?)\) ?", r"[(\1, \2)] \n", text))
    np.testing.assert_allclose(read_abacus(tmp_path, BASIS).hamiltonian.values, h.values, atol=1e-10)


def test_damaged_files(tmp_path):
    path = tmp_path / "data-HR-sparse_SPIN0.csr"
    whole = csr_text(CRYSTAL, random_matrices(CRYSTAL, Spin.NONE)[0], 0, "H", new=False)
    lines = whole.splitlines()
    rng = np.random.default_rng(0)
    for size in [0, 5, 40, *rng.integers(60, len(whole) - 40, 20).tolist()]:
        path.write_text(whole[:size])
        with pytest.raises(FormatError, match=r"SPIN0.csr: expected"):
            read_cell_matrices(path)

    def refused(text: str, match: str) -> None:
        path.write_text(text)
        with pytest.raises(FormatError, match=match):
            read_cell_matrices(path)

    def with_line(k: int, line: str) -> str:
        return "\n".join([*lines[:k], line, *lines[k + 1 :]]) + "\n"

    refused(with_line(1, "Matrix Dimension of H(R): 100000000000"), "got 100000000000 orbitals")
    refused(with_line(1, "Matrix Dimension of H(R): " + "9" * 5000), "expected a number of orbitals and cells")
    refused(with_line(1, "Matrix Dimension of H(R): 0"), "got 0 orbitals")
    refused(with_line(2, "Matrix number of H(R): 99999999999"), "got 17 orbitals and 99999999999 cells")
    refused(with_line(3, "0 0 0 99999999999"), "99999999999 elements for cell")
    refused(with_line(3, "0 0 9999999 17"), "elements for cell")
    refused(with_line(4, lines[4].replace("e", "x", 1)), "that are no numbers")
    refused(with_line(4, lines[4] + " 1.0"), "numbers where .* values of cell")
    refused(with_line(5, lines[5].replace(lines[5].split()[0], "17", 1)), "that do not fit")
    refused(with_line(6, "1" + lines[6][1:]), "that do not fit")
    refused(whole + whole.replace("STEP: 0", "STEP: 1"), "got several steps of a trajectory")
    refused(whole + "1 2 3\n", "'1 2 3' after the last matrix")
    refused("\0" * 1000, "without their header")
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(FormatError, match="without their header"):
        read_cell_matrices(path)
