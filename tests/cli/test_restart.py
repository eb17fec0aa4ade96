"""`harmose restart`: files for CP2K and SIESTA from samples and predictions; what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from harmose.cli import main
from harmose.io.files import write


def refused(capsys, *arguments) -> str:
    assert main(["restart", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_prediction_for_cp2k(chain, capsys):
    """A chain of one s orbital; the overlap of the model's basis set comes from the reference."""
    command = "restart chain_model chain.extxyz --reference dft --to cp2k --mesh 4x1x1 --electrons 1 --out c-RESTART.kp"
    assert main(command.split()) == 0
    assert Path("c-RESTART.kp").stat().st_size > 100
    assert "name it PROJECT-RESTART.kp beside CP2K's input, and set SCF_GUESS RESTART" in capsys.readouterr().out
    assert main(command.split()) == 2
    assert "exists already; --force replaces it" in capsys.readouterr().err
    assert main([*command.split(), "--force"]) == 0


def test_sample_for_siesta(water_sample, tmp_path, capsys):
    pytest.importorskip("sisl")
    write(tmp_path / "w.npz", water_sample(0, provenance={}))
    assert main(["restart", str(tmp_path / "w.npz"), "--to", "siesta", "--out", str(tmp_path / "w.DM")]) == 0
    assert "DM.UseSaveDM true" in capsys.readouterr().out
    assert (tmp_path / "w.DM").is_file()


def test_refused(water_sample, tmp_path, capsys):
    out = tmp_path / "x"
    for name, changes in {"w": {}, "u": {"provenance": {}}, "n": {"n_electrons": None}}.items():
        write(tmp_path / f"{name}.npz", replace(water_sample(0), **changes))
    w = tmp_path / "w.npz"
    text = refused(capsys, w, "--to", "siesta", "--out", out)
    assert "expected the basis set of a run of siesta, got sto-3g of pyscf; the run that starts must have" in text
    assert "expected cp2k or siesta, got abacus; ABACUS starts from" in refused(
        capsys, w, "--to", "abacus", "--out", out
    )
    assert "expected cp2k or siesta, got vasp" in refused(capsys, w, "--to", "vasp", "--out", out)
    assert "three lattice vectors" in refused(capsys, w, "--to", "cp2k", "--out", out)
    assert "give --electrons" in refused(capsys, tmp_path / "n.npz", "--to", "siesta", "--out", out)
    assert "--shifted: expected --to siesta" in refused(capsys, w, "--to", "cp2k", "--shifted", "--out", out)
    unknown = tmp_path / "u.npz"
    text = refused(capsys, unknown, "--to", "siesta", "--temperature", "0", "--out", out)
    assert "temperature: expected a positive number in K, got 0" in text
    assert "expected a size such as" in refused(capsys, unknown, "--to", "siesta", "--mesh", "3x3", "--out", out)
    assert not out.exists()
