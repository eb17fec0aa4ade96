"""`harmose version`."""

from harmose.cli import main


def test_version(capsys):
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines()} >= {"harmose", "python", "torch", "pyscf"}
