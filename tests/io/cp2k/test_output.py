"""CP2K's output: the numbers of a kept run, several runs in one file, and reasons of failed runs."""

import numpy as np
import pytest

from harmose.io.cp2k.output import failure, is_output, read_output

OUT = "harmose.out"


def test_numbers_of_a_run(chain):
    output = read_output(chain / OUT)
    assert (output.version, output.project, output.input_name, output.n_spins) == (
        "2023.1",
        "harmose",
        "harmose.inp",
        1,
    )
    assert output.numbers.tolist() == [1, 1]
    np.testing.assert_allclose(output.positions, [[0.1, 0.2, 6.1], [0.75, -0.15, 6.3]], atol=1e-6)
    np.testing.assert_allclose(output.cell, [[4.1, 0, 0], [0.3, 12, 0], [0, 0, 12.5]], atol=1e-3)
    assert (output.n_electrons, output.kmesh, output.cycles) == (2, (3, 1, 1), 9)
    orbitals = output.orbitals[1]
    assert (orbitals.name, " ".join(map(str, orbitals.shells))) == ("DZVP-MOLOPT-SR-GTH", "2s 3s 2p")
    images = {tuple(cell) for cell in output.images["KS"].tolist()}
    assert len(images) == 23
    assert images == {(-x, -y, -z) for x, y, z in images}


def test_last_of_several_runs(chain):
    old = (chain / OUT).read_text().replace("SCF run converged", "SCF run NOT converged").replace("-31", "-99")
    (chain / OUT).write_text(old + (chain / OUT).read_text())
    assert read_output(chain / OUT).fermi_level == pytest.approx(-1.84139, abs=1e-5)


def test_reasons_of_failed_runs(chain, tmp_path):
    text = (chain / OUT).read_text()
    assert failure(text) is None
    assert failure(text.replace("SCF run converged", "SCF run NOT converged")) == "the SCF is not converged"
    assert failure(text[: text.index("SCF run converged")]) == "CP2K's output breaks off"
    assert is_output(chain / OUT)
    assert not is_output(chain / "harmose.inp")
    assert not is_output(tmp_path / "nothing")
