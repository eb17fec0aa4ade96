"""Errors that a user can act on: one line that says what was expected, what came, and where."""


class HarmoseError(Exception):
    """Base of every error that harmose raises on bad input; the command line prints it as one line and exits with 2."""


class StructureError(HarmoseError):
    """A structure that no calculation can mean: atoms on top of each other, NaN positions, a singular cell."""


class BasisError(HarmoseError):
    """An element or a shell that the basis set does not have, or two basis sets that should be one."""


class MatrixError(HarmoseError):
    """A matrix that is not what it claims: wrong size, not Hermitian, blocks missing, extra or doubled."""


class SingularMatrix(MatrixError):
    """A matrix without an inverse to rounding: an energy that is an eigenvalue."""


class FormatError(HarmoseError):
    """A file that is missing, truncated, corrupt, of another version, or of another kind."""


class ConfigError(HarmoseError):
    """A configuration with an unknown key, a wrong type, or values that contradict each other."""


class OutsideDomain(UserWarning):
    """A prediction for surroundings of atoms that are unlike those of the training set."""


class ModelError(HarmoseError):
    """A request outside a model's card: another element, basis, spin kind, or a prior that is missing."""


class LabellingError(HarmoseError):
    """A structure that DFT could not label: not converged, odd electron count for RKS, unknown functional."""
