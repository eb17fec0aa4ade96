"""Trained models on disk: `model.safetensors` (all tensors) and `card.json` (what the model is and is for).

The tensors `radial.*` are the radial functions of a numerical basis set, if the model has them (`RadialBasis.to_arrays`: about
7 kB a shell). Older versions of harmose load such a model without them, and models of older versions have none. The tensors
`prior.*` are the tables of a tabulated H0 (`PairTables.to_arrays`).

Loading reads numbers and text; it never runs code.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from harmose.core.files import write_file
from harmose.core.radial import RadialBasis
from harmose.errors import BasisError, FormatError, ModelError
from harmose.inference.card import Card
from harmose.inference.model import Model
from harmose.inference.upgrades import present_weights
from harmose.kernel_regression import state as regression
from harmose.kernel_regression import training_domain
from harmose.nn.two_stage import TwoStage
from harmose.representation import normalizer
from harmose.representation.block_irreps import BlockIrreps
from harmose.uncertainty import state as calibration

WEIGHTS, CARD = "model.safetensors", "card.json"
SHIPPED = Path(__file__).parents[1] / "models"


def save(model: Model, path: str | Path) -> None:
    """Write a model into the folder `path`, made if it is missing; each file appears whole or not at all."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    parts = {"normalizer": normalizer.to_state(model.normalizer), "domain": training_domain.to_state(model.domain)}
    if model.network is not None:
        parts["network"] = model.network.state_dict()
    if model.regression is not None:
        parts["regression"] = regression.to_state(model.regression)
    if model.last_layer is not None:
        parts["last_layer"] = calibration.last_layer_to_state(model.last_layer)
    if model.calibration is not None:
        parts["calibration"] = calibration.to_state(model.calibration)
    if model.radial is not None:
        parts["radial"] = {k: torch.from_numpy(v) for k, v in model.radial.to_arrays().items()}
    if model.prior_tables is not None:
        parts["prior"] = {k: torch.from_numpy(v) for k, v in model.prior_tables.items()}
    write_tensors(path / WEIGHTS, {f"{part}.{k}": v for part, state in parts.items() for k, v in state.items()})
    write_file(path / CARD, model.card.to_json())


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], text: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all."""
    own = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    # not save_file: its files are the owner's alone, and a full disk is no OSError there
    write_file(path, to_bytes(own, metadata=dict(text or {})))


def load(name_or_path: str | Path) -> Model:
    """Load a model from the folder of a training, or a shipped model by its name.

    Args:
        name_or_path: folder with `model.safetensors` and `card.json`, or a name such as "water-pbe-def2svp".

    Returns:
        The model, on the CPU.

    Raises:
        FormatError: the folder holds no model, or a damaged one.
        ModelError: there is no such folder or name, or the weights do not belong to the card.

    Examples:
        >>> import harmose
        >>> harmose.load("water-pbe-def2svp").card.functional
        'pbe'
    """
    path = located(name_or_path)
    try:
        card = Card.from_json(text := (path / CARD).read_text(encoding="utf-8"), str(path / CARD))
        tensors = present_weights(load_file(path / WEIGHTS), json.loads(text)["version"])
    except FileNotFoundError as error:
        raise FormatError(f"{path}: expected a harmose model, got no {Path(error.filename or WEIGHTS).name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: the model cannot be read ({error})") from None
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            f"{path / WEIGHTS}: expected model weights, got a truncated or damaged file ({error})"
        ) from None
    return _assemble(card, tensors, path)


def read_card(name_or_path: str | Path) -> Card:
    """Read the card of a model without its weights; errors as in `load`."""
    file = located(name_or_path) / CARD
    try:
        return Card.from_json(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        raise FormatError(f"{file.parent}: expected a harmose model, got no {CARD}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{file.parent}: the model cannot be read ({error})") from None


def located(name_or_path: str | Path) -> Path:
    """Return the folder of a model, from its path or from the name of a shipped model."""
    for path in (Path(name_or_path), SHIPPED / str(name_or_path)):
        if path.is_dir():
            return path
    if Path(name_or_path).exists():
        raise FormatError(f"{name_or_path}: expected the folder of a model, got a file")
    shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{CARD}"))
    raise ModelError(
        f"{name_or_path}: no such model: expected a folder or one of the shipped models "
        f"({', '.join(shipped) or 'none in this version'})"
    )


def _assemble(card: Card, tensors: Mapping[str, torch.Tensor], path: Path) -> Model:
    """Build the model; `ModelError` for tensors that do not belong to the card."""
    _check_numbers(tensors, path)
    space = card.space
    parts = {name: with_prefix(tensors, f"{name}.") for name in ("normalizer", "domain", "regression", "calibration")}
    network = None if card.network is None else _network(card, space, with_prefix(tensors, "network."), path)
    scales = normalizer.from_state(space, parts["normalizer"])
    fitted = None
    if card.regression != "none":
        fitted = regression.from_state(space, parts["regression"])
        card = replace(card, regression=fitted.kind)  # which cards of version 2 do not say
        if fitted.pairs.keys() != scales.pair_scale.keys() or fitted.onsite.keys() != scales.onsite_scale.keys():
            raise ModelError(f"{path}: the regression and the normalizer are of other pairs of elements")
    domain = training_domain.from_state(space, parts["domain"])
    last_layer = calibration.last_layer_from_state(with_prefix(tensors, "last_layer."))
    bounds, radial = calibration.from_state(parts["calibration"]), _radial(card, with_prefix(tensors, "radial."), path)
    tables = {k: v.numpy() for k, v in with_prefix(tensors, "prior.").items()} or None
    return Model(card, scales, fitted, network, domain, last_layer, bounds, radial=radial, prior_tables=tables)


def _radial(card: Card, tensors: Mapping[str, torch.Tensor], path: Path) -> RadialBasis | None:
    """Return the radial functions that a model has; `ModelError` for those of other shells than the card's."""
    if not tensors:
        return None
    try:
        return RadialBasis.from_arrays(card.basis, {k: v.double().numpy() for k, v in tensors.items()})
    except BasisError as error:
        raise ModelError(f"{path}: the radial functions do not belong to the model ({error})") from None


def _check_numbers(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise `ModelError` for tensors that are not of real, defined numbers: predictions would be NaN without an error."""
    for name, tensor in tensors.items():
        # Bounds and floors may be infinite: a confidence that is not supported, an axis that does not vary, a stage that
        # does not fade.
        table = name.startswith(("calibration.", "domain.")) or name == "last_layer.half"
        valid = not tensor.isnan().any() if table else tensor.isfinite().all()
        if tensor.is_complex() or not valid:
            raise ModelError(f"{path}: expected real, finite numbers in the weights, got others in {name}")


def _network(card: Card, space: BlockIrreps, tensors: Mapping[str, torch.Tensor], path: Path) -> TwoStage:
    assert card.network is not None
    with torch.random.fork_rng(devices=[]):  # initial weights are random, and soon replaced
        network = TwoStage(space, card.network, card.inputs)
    expected = network.state_dict()
    # The first models had no output scale of stage 2: ones.
    tensors = {k: v for k, v in expected.items() if k.startswith("stage2.output_scale.")} | dict(tensors)
    missing = sorted(set(expected) - set(tensors))
    if missing:
        raise ModelError(f"{path}: the weights lack {missing[0]} and {len(missing) - 1} more that the card asks for")
    for name, tensor in tensors.items():
        if name not in expected:
            raise ModelError(f"{path}: the weights hold {name}, which the card's network does not have")
        if tensor.shape != expected[name].shape:
            want, got = tuple(expected[name].shape), tuple(tensor.shape)
            raise ModelError(f"{path}: expected {name} of shape {want} by the card, got {got}")
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
