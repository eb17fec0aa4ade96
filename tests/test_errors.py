"""Errors: one base class for bad input, and one for warnings."""

import inspect

from harmose import errors


def test_errors_of_bad_input_have_one_base_class():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]
    warned = {errors.OutsideDomain, errors.GhostLevels, errors.IncompleteHamiltonian}
    assert {c for c in classes if not issubclass(c, errors.HarmoseError)} == warned
    assert all(issubclass(c, Warning) for c in warned)
    assert issubclass(errors.OutsideDomain, Warning)
    assert issubclass(errors.GhostLevels, errors.OutsideDomain)
    assert all(c.__doc__ for c in classes)
