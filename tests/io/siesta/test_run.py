"""Which files are a run of SIESTA, and what its input and output say."""

import pytest

import harmose
from harmose.errors import FormatError
from harmose.io.siesta.run import Run, find_run, is_siesta, missing_in_siesta, outcome_of, runs_in, species_of_input


def test_a_folder_that_is_nearly_a_run(tmp_path):
    assert missing_in_siesta(tmp_path) is None
    (tmp_path / "si.fdf").write_text("SystemLabel si\n")
    assert not is_siesta(tmp_path)
    message = missing_in_siesta(tmp_path)
    assert message is not None
    assert "`SaveHS true`" in message
    with pytest.raises(FormatError, match=r"`SaveHS true` in the input writes LABEL.HSX"):
        harmose.read(tmp_path)
    (tmp_path / "si.HSX").touch()
    assert is_siesta(tmp_path)
    assert missing_in_siesta(tmp_path) is None


def test_several_runs_in_one_folder(tmp_path):
    for name in ("a.HSX", "a.TSHS", "b.TSHS"):
        (tmp_path / name).touch()
    assert runs_in(tmp_path) == {"a": tmp_path / "a.HSX", "b": tmp_path / "b.TSHS"}
    with pytest.raises(FormatError, match=r"expected one SIESTA run, .* got those of a, b"):
        find_run(tmp_path)
    assert find_run(tmp_path / "b.TSHS") == Run("b", tmp_path / "b.TSHS")
    (tmp_path / "b.TSHS").unlink()
    assert runs_in(tmp_path) == {"": tmp_path}
    assert runs_in(tmp_path / "a.HSX") == {"": tmp_path / "a.HSX"}


def test_links(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.HSX").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.HSX").symlink_to(tmp_path / "store" / "a.HSX")
    assert find_run(tmp_path / "run").matrix == tmp_path / "run" / "a.HSX"


def test_species_of_the_input(tmp_path):
    run = Run("si", tmp_path / "si.HSX")
    assert species_of_input(run) == {}
    (tmp_path / "run.fdf").write_text(
        "System_Label si ! the label\n%block Chemical_Species-Label\n 1 14 bulk  # silicon\n 2 -1 H_ghost\n"
        "%endblock ChemicalSpeciesLabel\n%block other\n 3 6 C\n%endblock\n"
    )
    (tmp_path / "other.fdf").write_text("SystemLabel other\n%block ChemicalSpeciesLabel\n1 8 bulk\n")
    assert species_of_input(run) == {"bulk": 14, "H_ghost": -1}


CONVERGED = "        timer: Routine,Calls,Time,% = IterSCF  1  1.0\nSCF cycle converged after 9 iterations\n"
FAILED = "SCF_NOT_CONV: SCF did not converge  in maximum number of steps.\n"
HEAD = "Siesta Version: 5.0\nreinit: System Label: si                 \n"
ENERGY = "siesta:         Total =    -215.450000\n"


@pytest.mark.parametrize(
    ("text", "converged", "energy"),
    [
        (HEAD + CONVERGED + ENERGY, True, -215.45),
        (HEAD + FAILED + ENERGY, False, -215.45),
        (HEAD + FAILED + CONVERGED, True, None),
        (HEAD + CONVERGED + FAILED, False, None),
        (HEAD, None, None),
        (HEAD.replace("si ", "ge ") + FAILED, None, None),  # the output of another run
        ("SCF cycle converged after 9 iterations", None, None),
    ],
)
def test_outcome_by_the_output(tmp_path, text, converged, energy):
    (tmp_path / "slurm-17.out").write_text(text)
    outcome = outcome_of(Run("si", tmp_path / "si.HSX"))
    assert (outcome.converged, outcome.energy) == (converged, energy)


def test_outcome_by_messages(tmp_path):
    run = Run("si", tmp_path / "si.HSX")
    (tmp_path / "MESSAGES").write_text("WARNING: " + FAILED + "INFO: Job completed\n")
    assert outcome_of(run).converged is False
    (tmp_path / "MESSAGES").write_text("INFO: Job completed\n")
    assert outcome_of(run).converged is None
    (tmp_path / "MESSAGES").write_text("WARNING: " + FAILED)
    (tmp_path / "run.out").write_text(HEAD + FAILED + CONVERGED)  # the last of several geometries has converged
    assert outcome_of(run).converged is True
    (tmp_path / "again.out").write_text(HEAD + CONVERGED)  # which of the two belongs to the matrices is not known
    assert outcome_of(run).converged is False
