"""`Card`: the description of a model, as JSON beside its weights; cards of older versions are upgraded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any, Literal, get_args

from ase.data import chemical_symbols
from pydantic import TypeAdapter, ValidationError

from harmose.core.basis import BasisSet
from harmose.errors import FormatError, HarmoseError
from harmose.inference.upgrades import CARD_UPGRADES
from harmose.nn.stage1.inputs import InputSettings
from harmose.nn.two_stage import NetworkSettings
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import TargetSettings, block_irreps
from harmose.spin import Spin

FORMAT = "harmose-model"
VERSION = 4

EnergyZero = Literal["labels", "fermi_of_labels", "fermi_of_prediction"]
"""`labels`: the energy zero of the labels. `fermi_of_labels`: H - E_F S was learned. `fermi_of_prediction`: H was learned, and
each prediction is shifted to the Fermi level of its own bands."""
RegressionKind = Literal["kernel", "pairs", "none"]
"""`kernel`: functions of distances, three-centre terms and a kernel between environments. `pairs`: functions of distances."""

CONVENTIONS = {
    "energies": "eV",
    "lengths": "angstrom",
    "orbitals": "m = -l..l, shells in the order of the basis set",
    "targets": "O(3) irreps: off-site in edge frames, on-site in the global frame; regression subtracted",
}

PLAIN: dict[str, type] = {
    "needs_prior": bool,
    "periodic": bool,
    "settings": dict,
    "conventions": dict,
    "training_set": str,
    "n_train": int,
    "init": dict,
    "n_parameters": int,
    "seed": int,
    "date": str,
    "harmose": str,
    "metrics": dict,
    "calibration": dict,
}
"""Types of the entries that are read as they are."""


@dataclass(frozen=True)
class Card:
    """Description of a model: what it is for, its settings, and where it comes from.

    Attributes:
        basis, spin: basis set and spin of its matrices.
        network: settings of the network; None for the regression alone.
        l_max: largest degree of its irreps.
        regression: kind of the regression.
        needs_prior: True if H0 is added to the prediction.
        inputs: what the model reads besides elements and positions.
        moments: signs of the initial magnetic moments (1, -1, 0) of the training set by symbol, where the model reads them.
        energy_zero: energy zero of its predictions.
        overlap_filter: threshold of the Wiener filter of H - H0 (`harmose.physics.overlap_filter`); 0 disables it.
        periodic: True if it was trained on crystals.
        charges: total charges of the training samples, ascending.
        unpaired: their numbers of unpaired electrons, ascending (`harmose.inference.electrons`); None where not known.
        settings: settings of the labels (metadata of the store).
        conventions: units and conventions of its numbers.
        training_set: SHA-256 of the training samples' records; `n_train`: their number.
        init: where the training started from another model: its name (`model`) and the SHA-256 of its weights (`weights`), what
            became of its regression (`regression`), its own `training_set`, `n_train` and `init`; else empty.
        n_parameters: parameters of the network; `seed`, `date`, `harmose`: seed, day and package version of the training.
        metrics: errors on the validation samples, energies in eV.
        calibration: number of samples (`samples`) and of independent `groups` that the error bounds were fitted to, the
            `left_out_training_samples` among them, and the `highest_confidence` that they support; empty without bounds.
    """

    basis: BasisSet
    spin: Spin
    network: NetworkSettings | None
    l_max: int
    regression: RegressionKind = "kernel"
    needs_prior: bool = False
    inputs: InputSettings = field(default_factory=InputSettings)
    moments: Mapping[str, Sequence[int]] = field(default_factory=dict)
    energy_zero: EnergyZero = "labels"
    overlap_filter: float = 0.0
    periodic: bool = False
    charges: tuple[int | float, ...] = (0,)
    unpaired: tuple[int | float, ...] | None = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=lambda: CONVENTIONS)
    training_set: str = ""
    n_train: int = 0
    init: Mapping[str, Any] = field(default_factory=dict)
    n_parameters: int = 0
    seed: int = 0
    date: str = ""
    harmose: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> tuple[int, ...]:
        return self.basis.elements

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the elements."""
        return tuple(chemical_symbols[z] for z in self.elements)

    @property
    def space(self) -> BlockIrreps:
        """Return the irreps of the model's blocks, of which `l_max` is the largest degree."""
        symbols = dict(zip(self.symbols, self.elements))
        kinds = ((symbols[symbol], sign) for symbol, signs in self.moments.items() for sign in signs)
        return block_irreps(self.basis, self.spin, tuple(kinds))

    @property
    def target(self) -> TargetSettings:
        """Return the target that predictions are compared with, and the operators that the model reads."""
        return TargetSettings(
            prior=self.needs_prior,
            fermi=self.energy_zero != "labels",
            operators=self.inputs.operators,
            moments=self.inputs.moments,
        )

    @property
    def reads_prior(self) -> bool:
        """True if a prediction needs H0: to add it, or as an input."""
        return self.needs_prior or self.inputs.prior or self.inputs.density

    @property
    def functional(self) -> str | None:
        return self.settings.get("functional")

    @property
    def code(self) -> str | None:
        return self.settings.get("code")

    def to_json(self) -> str:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content |= {
            "format": FORMAT,
            "version": VERSION,
            "elements": [chemical_symbols[z] for z in self.elements],
            "basis": json.loads(self.basis.to_json()),
            "basis_fingerprint": self.basis.fingerprint,
            "functional": self.functional,
            "code": self.code,
            "spin": self.spin.value,
            "network": None if self.network is None else asdict(self.network),
            "inputs": self.inputs.to_dict(),
        }
        for key in ("moments", "init"):
            if not getattr(self, key):  # as older versions wrote it
                del content[key]
        return json.dumps(content, indent=1, default=dict)

    @staticmethod
    def from_json(text: str, where: str = "model card") -> "Card":
        """Read a card; `FormatError` unless the text is a card of this version or an older one."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}")
            version = content["version"]
            if type(version) is not int:
                raise ValueError(f"version {version!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"{where}: expected the card of a harmose model, got something else ({error})") from None
        if not 0 < version <= VERSION:
            raise FormatError(f"{where}: expected a model of version {VERSION} or older, got version {version}")
        try:
            for v in range(version, VERSION):
                content = CARD_UPGRADES[v](content)
            return _card(content)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            raise FormatError(
                f"{where}: the model card is corrupt ({key}: {problem['msg']}, got {problem['input']!r})"
            ) from None
        except (HarmoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{where}: the model card is corrupt ({error})") from None


def _card(content: dict[str, Any]) -> Card:
    basis = BasisSet.from_json(json.dumps(content["basis"]))
    if basis.fingerprint != content["basis_fingerprint"]:
        raise ValueError("the basis set does not have the fingerprint that is written beside it")
    network = content["network"]
    settings = None
    if network is not None:
        settings = TypeAdapter(NetworkSettings).validate_python(network)
    l_max = int(content["l_max"])
    spin = Spin(content["spin"])
    if l_max != block_irreps(basis, spin).l_max:
        raise ValueError(f"l_max {l_max} does not belong to the basis set")
    if content.get("energy_zero", "labels") not in get_args(EnergyZero):
        raise ValueError(f"energy_zero {content['energy_zero']!r}")
    if content.get("regression", "kernel") not in get_args(RegressionKind):
        raise ValueError(f"regression {content['regression']!r}")
    inputs = TypeAdapter(InputSettings).validate_python(content.get("inputs", {}))
    overlap_filter = content.get("overlap_filter", 0.0)
    if not (isinstance(overlap_filter, float) and 0 <= overlap_filter < 10):
        raise ValueError(f"overlap_filter {overlap_filter!r}")
    for name, kind in PLAIN.items():
        if name in content and not isinstance(content[name], kind):
            raise ValueError(f"{name} {content[name]!r}")
    moments = _moments(content.get("moments", {}), basis)
    if bool(moments) != inputs.moments:
        raise ValueError(f"inputs.moments {inputs.moments} with moments {moments}")
    plain = {f.name: content[f.name] for f in fields(Card) if f.name in content}
    if "charges" in plain:
        plain["charges"] = _numbers(plain["charges"], "charges")
    if plain.get("unpaired") is not None:
        plain["unpaired"] = _numbers(plain["unpaired"], "unpaired")
    read = {"basis": basis, "spin": spin, "network": settings, "inputs": inputs, "moments": moments, "l_max": l_max}
    return Card(**plain | read)


def _moments(content: Any, basis: BasisSet) -> dict[str, tuple[int, ...]]:
    """Return the signs of moments by symbol; `ValueError` unless every element of the basis set has some."""
    if not content:
        return {}
    symbols = {chemical_symbols[z] for z in basis.elements}
    for symbol, signs in content.items():
        if symbol not in symbols or not signs or len({*signs}) < len(signs) or not {*signs} <= {-1, 0, 1}:
            raise ValueError(f"moments {content!r}")
    return {symbol: tuple(signs) for symbol, signs in content.items()}


def _numbers(content: Any, name: str) -> tuple[int | float, ...]:
    if not (isinstance(content, list) and content and all(type(x) in (int, float) and isfinite(x) for x in content)):
        raise ValueError(f"{name} {content!r}")
    return tuple(content)
