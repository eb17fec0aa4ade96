"""Errors on bad input. Each is one line that says what was expected, what came, and where."""


class HarmoseError(Exception):
    """Base of all errors that harmose raises on bad input.

    The command line prints the message as one line and exits with code 2.

    Examples:
        >>> import harmose
        >>> harmose.load("no-such-model")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        harmose.errors...: ...
    """


class StructureError(HarmoseError):
    """A structure without physical meaning: atoms on top of each other, NaN positions, a singular cell."""


class BasisError(HarmoseError):
    """An element or a shell that a basis set lacks, or two basis sets that should be the same."""


class MatrixError(HarmoseError):
    """A matrix of the wrong size, not Hermitian, or with blocks that are missing, extra or doubled."""


class SingularMatrix(MatrixError):
    """A matrix without an inverse to rounding: the energy is an eigenvalue."""


class FormatError(HarmoseError):
    """A file that is missing, truncated, corrupt, of another version, or of another kind."""


class ConfigError(HarmoseError):
    """A configuration with an unknown key, a wrong type, or values that contradict each other."""


class ModelError(HarmoseError):
    """A request outside a model's card: another element, basis set or spin kind, or a missing prior."""


class LabellingError(HarmoseError):
    """A structure that DFT could not label: SCF not converged, odd electron count for RKS, unknown functional."""


class OutsideDomain(UserWarning):
    """A prediction for a structure with atoms outside the training domain of the model."""


class GhostLevels(OutsideDomain):
    """A predicted H with levels below the LUMO that no DFT Hamiltonian has (`harmose.physics.ghosts`)."""


class IncompleteHamiltonian(UserWarning):
    """A calculation whose H lacks a term that its bands have, such as spin-orbit coupling that a code adds to H(k) only."""
