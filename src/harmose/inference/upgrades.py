"""Models of older versions: cards and weights brought up to the present one, a version at a time."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Content = dict[str, Any]

ENERGY_ZEROS = {"none": "labels", "fermi": "fermi_of_labels", "solved": "fermi_of_prediction"}
"""Values of `energy_zero` by those of `gauge` in version 2."""

STAGE_1 = {"unnatural_channels": "pseudo_channels", "doublets": "so2_channels", "blocks": "layers"}
STAGE_2 = {"unnatural_channels": "pseudo_channels", "doublets": "so2_channels", "layers": "mlp_layers"}

WEIGHTS = (
    (r"^network\.(encoder|heads|inputs)\.", r"network.stage1.\1."),
    (r"^network\.refiner\.(attention|standardize|rescale|free|messages)\.", r"network.stage2.rounds.0.\1."),
    (r"^network\.refiner\.", "network.stage2."),
    (r"\.encoder\.blocks\.", ".encoder.edge_updates."),
    (r"(\.messages(\.\d+)?|\.attention\.values)\.axial\.", r"\1.proper."),
    (r"(\.messages(\.\d+)?|\.attention\.values)\.chiral\.", r"\1.pseudo."),
    (r"(\.onsite\.\d+)\.around\.", r"\1.proper_scale."),
    (r"(\.onsite\.\d+)\.mirrored\.", r"\1.pseudo_scale."),
    (r"^(network\..*)\.around\.", r"\1.so2."),
    (r"^(network\..*)\.kind\.", r"\1.pair_type."),
    (r"\.attention\.invariants\.", ".attention.standardize."),
    (r"\.attention\.weights\.", ".attention.logits."),
    (r"\.free\.layers\.", ".free.mlp."),
    (r"\.free\.chiral\.", ".free.pseudoscalar_scale."),
    (r"\.free\.direct\.", ".free.directions."),
    (r"\.free\.size\.", ".free.direction_scale."),
    (r"\.free\.(even|odd)\.", r".free.read_\1."),
    (r"\.free\.", ".map."),
    (r"\.stage2\.coefficients\.", ".stage2.h1_readers."),
    (r"\.stage2\.sizes\.", ".stage2.output_scale."),
    (r"^baseline\.pair\.(\d+)\.scale$", r"normalizer.pair_scale.\1"),
    (r"^baseline\.onsite\.(\d+)\.scale$", r"normalizer.onsite_scale.\1"),
    (r"^baseline\.onsite\.(\d+)\.domain\.", r"domain.\1."),
    (r"^baseline\.", "regression."),
    (r"^(regression\.(?:pair|onsite)\.\d+)\.field", r"\1.expansion"),
    (r"^(regression\..*)\.power$", r"\1.exponent"),
    (r"^calibration\.levels$", "calibration.confidences"),
    (r"^calibration\.least$", "calibration.feature_floors"),
    (r"^calibration\.most$", "calibration.feature_limits"),
    (r"^calibration\.kinds$", "calibration.block_types"),
    (r"^calibration\.factors$", "calibration.block_factors"),
    (r"^calibration\.typical$", "calibration.mean_scores"),
    (r"^calibration\.orbitals$", "calibration.orbital_factors"),
    (r"^calibration\.orbital_most$", "calibration.orbital_limits"),
    (r"\bunnatural\b", "pseudo"),
    (r"\bnatural\b", "proper"),
    (r"\bdoublets\b", "so2"),
    (r"\bn_natural\b", "n_proper"),
    (r"^(network\..*)\bkind\b", r"\1pair_type"),
)
"""Patterns of names of weights in version 2, and what they are replaced by, in order."""


def card_from_1(card: Content) -> Content:
    """Version 1 had one second stage: learned symmetry, and all inputs."""
    switches = {"symmetry": "learned", "rotate": True, "covariant": True, "baseline": True, "attention": True}
    model = card["model"]
    return card | {"model": model | {"refiner": model["refiner"] | switches}}


def card_from_2(card: Content) -> Content:
    """Version 2 had other names for the parts of the network, for the energy zero, and for the overlap filter."""
    card = dict(card)
    model = card.pop("model")
    card["network"] = {"stage1": _renamed(model["encoder"], STAGE_1), "stage2": _renamed(model["refiner"], STAGE_2)}
    zero = card.pop("gauge", "none")
    card["energy_zero"] = ENERGY_ZEROS.get(zero, zero)
    card["overlap_filter"] = card.pop("shrinkage", 0.0)
    if "highest_level" in (calibration := card.get("calibration", {})):
        card["calibration"] = _renamed(calibration, {"highest_level": "highest_confidence"})
    return card


def _3_to_4(card: Content) -> Content:
    """Version 3 did not say which charges and unpaired electrons it had learned, and its networks were not bounded."""
    network = card["network"]
    return card | {
        "charges": [0],
        "unpaired": [0] if _labels_have_closed_shells(card) else None,
        "network": None if network is None else network | {"bounded": False},
    }


def _labels_have_closed_shells(card: Content) -> bool:
    """True for labels of spin none, and for spinor labels of PySCF, which are made for even numbers of electrons only."""
    return card["spin"] == "none" or (card["spin"] == "spinor" and card.get("settings", {}).get("code") == "pyscf")


def present_weights(weights: Mapping[str, Tensor], version: int) -> dict[str, Tensor]:
    """Tensors by their present names, of a model whose card has this version."""
    if version < 3:
        weights = {_present_name(name): tensor for name, tensor in weights.items()}
    if version < 4:  # the last layer stood in the calibration
        pattern = re.compile(r"^calibration\.(edges|atoms)\.")
        weights = {pattern.sub(r"last_layer.\1.", name): tensor for name, tensor in weights.items()}
    return dict(weights)


def _present_name(name: str) -> str:
    for pattern, replacement in WEIGHTS:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> Content:
    return {names.get(key, key): value for key, value in content.items()}


CARD_UPGRADES: dict[int, Callable[[Content], Content]] = {1: card_from_1, 2: card_from_2, 3: _3_to_4}
"""Functions that turn a card of version v into one of version v + 1."""
