"""The `.out` file: the last SCF counts."""

import pytest

from harmose.io.openmx.log import TITLE, read_log


def write(path, *steps: str, title: str = TITLE):
    path.write_text(
        f"\n  {title} Ver. 3.9.9\n\n   SCF history at MD= 1\n   SCF=   1  NormRD=  1.0  Uele=  9.0\n"
        "   SCF history at MD= 2\n" + "\n".join(steps) + "\n  Utot.  -12.500000000000\n"
        "  Chemical potential (Hartree)      -0.250000000000\n"
    )
    return path


def steps(*energies: float, residual: float = 1e-9) -> list[str]:
    return [f"   SCF= {k + 1}  NormRD=  {residual:.12f}  Uele= {e:.12f}" for k, e in enumerate(energies)]


def test_content(tmp_path):
    log = read_log(write(tmp_path / "a.out", *steps(-3.0, -3.1)))
    assert (log.version, log.fermi_level, log.energy) == ("3.9.9", -0.25, -12.5)
    assert [energy for _, energy in log.history] == [-3.0, -3.1]
    assert read_log(tmp_path / "nothing.out") is None
    assert read_log(write(tmp_path / "b.out", title="CP2K")) is None


@pytest.mark.parametrize(
    ("energies", "residual", "max_steps", "converged"),
    [
        ((), 0.0, 40, None),
        ((-3.0,), 1e-9, 40, False),
        ((-3.0, -3.1), 1e-9, 40, False),
        ((-3.0, -3.1, -3.1), 1e-9, 40, True),
        ((-3.0, -3.1, -3.1000005), 1e-9, 40, True),
        ((-3.0, -3.1, -3.100002), 1e-9, 40, False),
        ((-3.0, -3.1, -3.1), 1e-3, 3, False),  # all steps are used up, and the density still changes
        ((-3.0, -3.1, -3.1), 1e-3, 40, True),  # OpenMX ended by itself
    ],
)
def test_convergence(tmp_path, energies, residual, max_steps, converged):
    log = read_log(write(tmp_path / "a.out", *steps(*energies, residual=residual)))
    assert log.converged(1e-6, max_steps) is converged
