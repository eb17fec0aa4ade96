"""Settings and outcome of a run of OpenMX, as JSON values."""

from collections.abc import Callable
from typing import Any

from harmose.core.species import symbol_of
from harmose.io.openmx.input import Species
from harmose.io.openmx.moments import initial_moments
from harmose.io.openmx.run import NAME, SPINS, Run
from harmose.io.valence import valence_of_elements
from harmose.spin import Spin


def provenance(run: Run) -> dict[str, Any]:
    """Return settings and outcome as JSON values; what the files do not say is left out, or None for `converged`."""
    text, log, spin = run.text, run.log, SPINS[run.stored.spin]
    settings = {
        "pao": _by_element(run, lambda kind: kind.pao.text),
        "vps": _by_element(run, lambda kind: kind.vps),
        "temperature": text.number("scf.ElectronicTemperature", 300.0),
        "energy_cutoff": text.number("scf.energycutoff", 150.0),
        "hubbard": text.is_on("scf.Hubbard.U"),
    }
    result: dict[str, Any] = {"code": NAME, "settings": settings}
    if log is not None and log.version is not None:
        result["version"] = log.version
    if functional := text.word("scf.XcType", ""):
        result["functional"] = functional
    if text.word("scf.EigenvalueSolver", "").lower() == "band":
        result["kmesh"] = text.whole_numbers("scf.Kgrid", (4, 4, 4))
    if spin is Spin.SPINOR:
        result["spin_orbit"] = text.is_on("scf.SpinOrbit.Coupling")
    if (moments := initial_moments(text, spin)) is not None:
        result["initial_moments"] = moments.tolist()
    electrons = [up + down for up, down in text.initial_electrons()]
    result |= valence_of_elements(run.structure, electrons, run.stored.n_electrons)
    criterion, max_steps = text.number("scf.criterion", 1e-6), int(text.number("scf.maxIter", 40))
    result["converged"] = None if log is None else log.converged(criterion, max_steps)
    if log is not None and log.history:
        result["cycles"] = len(log.history)
    if run.left_out:
        result["left_out"] = list(run.left_out)
    return result


def _by_element(run: Run, value: Callable[[Species], str]) -> dict[str, str]:
    """Return a text of each element, by its symbol; several species of an element are joined by a plus sign."""
    kinds: dict[str, set[str]] = {}
    for z, kind in run.kinds:
        kinds.setdefault(symbol_of(z), set()).add(value(kind))
    return {symbol: "+".join(sorted(texts)) for symbol, texts in sorted(kinds.items())}
