"""Trained models on disk: `model.safetensors` (weights, baseline) and `card.json` (what the model is and is for).

Loading reads numbers and text; it never runs code.
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from harmose.basis import BasisSet
from harmose.batch import graph_batch
from harmose.blocks import BlockMatrix
from harmose.closed_form.baseline import Baseline
from harmose.closed_form.novelty import LIMIT
from harmose.closed_form.state import from_state, to_state
from harmose.data.dataset import restore
from harmose.data.joining import Joined, Target, join, target_space
from harmose.errors import FormatError, HarmoseError, ModelError, OutsideDomain
from harmose.fermi import at_own_fermi_level, n_electrons
from harmose.graph import build_graph
from harmose.nn.encoder import EncoderSettings
from harmose.nn.model import ModelSettings, TwoStage
from harmose.nn.refiner_settings import RefinerSettings, Symmetry
from harmose.spin import Spin
from harmose.structure import check_structure
from harmose.targets import to_matrix

FORMAT = "harmose-model"
VERSION = 2
WEIGHTS, CARD = "model.safetensors", "card.json"
SHIPPED = Path(__file__).parent / "models"

GAUGES = ("none", "fermi", "solved")

CONVENTIONS = {
    "energies": "eV",
    "lengths": "angstrom",
    "orbitals": "m = -l..l, shells in the order of the basis set",
    "targets": "O(3) irreps: off-site in edge frames, on-site in the global frame; closed-form baseline subtracted",
}


def _name_symmetry(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew one second stage, whose symmetry is learned and which sees everything."""
    switches = {"symmetry": "learned", "rotate": True, "covariant": True, "baseline": True, "attention": True}
    model = content["model"]
    return content | {"model": model | {"refiner": model["refiner"] | switches}}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _name_symmetry}
"""From a card of version v to one of version v + 1."""


@dataclass(frozen=True)
class Card:
    """What a model is: everything that decides whether a request makes sense for it, and where it comes from.

    `settings` are those of the labels (the store's metadata). `metrics` holds energies in eV.
    """

    basis: BasisSet
    spin: Spin
    model: ModelSettings
    l_max: int
    needs_prior: bool = False
    gauge: str = "none"
    """`none`: the zero of energy is that of the labels. Otherwise a prediction's Fermi level is zero: with `fermi` because
    H - E_F S was learned, with `solved` because it is found from the prediction's own bands."""
    periodic: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=lambda: CONVENTIONS)
    training_set: str = ""
    """SHA-256 of the training samples' records."""
    n_train: int = 0
    n_parameters: int = 0
    seed: int = 0
    date: str = ""
    harmose: str = ""
    """Version of the package that trained it."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def elements(self) -> tuple[int, ...]:
        return self.basis.elements

    @property
    def target(self) -> Target:
        """What a prediction is to be compared with."""
        return Target(prior=self.needs_prior, fermi=self.gauge != "none")

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
            "model": asdict(self.model),
        }
        return json.dumps(content, indent=1, default=dict)

    @staticmethod
    def from_json(text: str, where: str = "model card") -> "Card":
        """`FormatError` unless the text is a card of this format, of this version or an older one."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}")
            version = int(content["version"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"{where}: expected the card of a harmose model, got something else ({error})") from None
        if not 0 < version <= VERSION:
            raise FormatError(f"{where}: expected a model of version {VERSION} or older, got version {version}")
        try:
            for v in range(version, VERSION):
                content = UPGRADES[v](content)
            return _card(content)
        except (HarmoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{where}: the model card is corrupt ({error})") from None


def _card(content: dict[str, Any]) -> Card:
    basis = BasisSet.from_json(json.dumps(content["basis"]))
    if basis.fingerprint != content["basis_fingerprint"]:
        raise ValueError("the basis set does not have the fingerprint that is written beside it")
    model = content["model"]
    settings = ModelSettings(EncoderSettings(**model["encoder"]), RefinerSettings(**model["refiner"]))
    _check_network(settings)
    l_max = int(content["l_max"])
    spin = Spin(content["spin"])
    if l_max != target_space(basis, spin).l_max:
        raise ValueError(f"l_max {l_max} does not belong to the basis set")
    if content.get("gauge", "none") not in GAUGES:
        raise ValueError(f"gauge {content['gauge']!r}")
    plain = {f.name: content[f.name] for f in fields(Card) if f.name in content}
    return Card(**plain | {"basis": basis, "spin": spin, "model": settings, "l_max": l_max})


def _check_network(settings: ModelSettings) -> None:
    """`ValueError` unless every setting has its type, widths a size that can be meant, and the symmetry mode exists."""
    usual = ModelSettings()
    for part, like in ((settings.encoder, usual.encoder), (settings.refiner, usual.refiner)):
        for name, default in asdict(like).items():
            value = getattr(part, name)
            if type(default) is int and not (type(value) is int and 0 < value <= 10**5):
                raise ValueError("the network's widths are not positive whole numbers")
            if type(value) is not type(default):
                raise ValueError(f"{name} {value!r} is no setting of a network")
    if settings.refiner.symmetry not in get_args(Symmetry):
        raise ValueError(f"symmetry {settings.refiner.symmetry!r}")


@dataclass(frozen=True)
class Model:
    """A network with its baseline and its card: `predict(atoms)` gives H."""

    network: TwoStage
    baseline: Baseline
    card: Card

    def predict(self, atoms: Atoms, prior: BlockMatrix | None = None, stage: str = "full") -> BlockMatrix:
        """H in eV. `stage` is "full" or "stage1"; a model that needs H0 computes it with PySCF unless it is given.

        Raises `ModelError` for what the card does not cover, `StructureError` for a structure without meaning.
        """
        return self.predict_many([atoms], None if prior is None else [prior], stage)[0]

    def predict_many(
        self, structures: Sequence[Atoms], priors: Sequence[BlockMatrix | None] | None = None, stage: str = "full"
    ) -> list[BlockMatrix]:
        """`predict` for several structures in one pass of the network."""
        if stage not in ("full", "stage1"):
            raise ModelError(f"stage: expected full or stage1, got {stage!r}")
        for atoms in structures:
            self._check(atoms)
        if not structures:
            return []
        space = self.baseline.space
        graphs = [build_graph(atoms, space.basis) for atoms in structures]
        joined = join(space, graphs)
        device = next(self.network.parameters()).device
        batch = graph_batch(space, joined.graph, joined.oriented).to(device)
        with torch.no_grad():
            predicted = self.network(batch, stage)
        try:
            restored = restore(self.baseline, joined.oriented, predicted)
            self._warn(joined)
        except (KeyError, ValueError, IndexError) as error:
            raise ModelError(f"the model's baseline does not belong to its card ({error})") from None
        values = to_matrix(space, restored, joined.graph, joined.oriented)
        matrices = joined.split(values, graphs)
        if self.card.gauge == "solved":
            electrons = [
                n_electrons(self.card.settings, self.card.basis, self.card.spin, atoms) for atoms in structures
            ]
            return [at_own_fermi_level(*each) for each in zip(matrices, structures, electrons, strict=True)]
        if not self.card.needs_prior:
            return matrices
        given = priors if priors is not None else [None] * len(matrices)
        pairs = zip(matrices, structures, given, strict=True)
        return [matrix + self._prior(atoms, prior, matrix) for matrix, atoms, prior in pairs]

    def _warn(self, joined: Joined) -> None:
        """`OutsideDomain`, one line for each structure with an atom of unfamiliar surroundings."""
        novelty = self.baseline.novelty(joined.oriented)
        if novelty.max(initial=0.0) <= LIMIT:
            return
        for k in range(joined.n_samples):
            mine = novelty[joined.atom_sample == k]
            if mine.max(initial=0.0) > LIMIT:
                warnings.warn(_outside(mine), OutsideDomain, stacklevel=4)

    def _check(self, atoms: Atoms) -> None:
        check_structure(atoms)
        unknown = sorted(set(atoms.numbers.tolist()) - set(self.card.elements))
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.card.elements)
            raise ModelError(
                f"expected elements among {known}, which the model knows, got {chemical_symbols[unknown[0]]}"
            )
        if atoms.pbc.any() and not self.card.periodic:
            raise ModelError(f"expected a molecule, as in the model's training set, got pbc {atoms.pbc.tolist()}")

    def _prior(self, atoms: Atoms, prior: BlockMatrix | None, like: BlockMatrix) -> BlockMatrix:
        if prior is None:
            from harmose.io.pyscf import PySCFSettings
            from harmose.io.pyscf import prior as compute

            if self.card.code not in ("pyscf", None):
                raise ModelError(f"this model needs the prior H0 of {self.card.code}: give it as `prior`")
            known = {f.name for f in fields(PySCFSettings)}
            prior = compute(
                atoms, PySCFSettings(**{k: v for k, v in self.card.settings.items() if k in known}), like.basis
            )
        if prior.basis.restricted(set(atoms.numbers.tolist())) != like.basis.restricted(set(atoms.numbers.tolist())):
            raise ModelError(
                f"expected a prior in basis {like.basis.name} with the model's shells, got {prior.basis.name}"
            )
        if not (np.array_equal(prior.numbers, like.numbers) and np.array_equal(prior.pairs, like.pairs)):
            raise ModelError("expected a prior of the same structure, got one with other atoms or blocks")
        if prior.spin is not like.spin:
            raise ModelError(f"expected a prior of spin {like.spin}, as the model's, got {prior.spin}")
        return like.with_values(prior.values)


def _outside(novelty: np.ndarray) -> str:
    return (
        f"outside the training domain: the surroundings of {(novelty > LIMIT).sum()} of {len(novelty)} atoms are up to "
        f"{novelty.max():.1f} times as far from those of the training set as any that it held out (most: atom "
        f"{novelty.argmax()}); expect larger errors"
    )


def save(model: Model, path: str | Path) -> None:
    """Write a model into the folder `path`, made if it is missing; each file appears whole or not at all."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{k}": v for k, v in model.network.state_dict().items()}
    tensors |= {f"baseline.{k}": v for k, v in to_state(model.baseline).items()}
    write_tensors(path / WEIGHTS, tensors)
    _replace(path / CARD, lambda hidden: hidden.write_text(model.card.to_json(), encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], text: Mapping[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    own = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    # not save_file: its files are the owner's alone, and a full disk is no OSError there
    _replace(path, lambda hidden: hidden.write_bytes(to_bytes(own, metadata=dict(text or {}))))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    hidden = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(hidden)
        with open(hidden, "rb") as file:
            os.fsync(file.fileno())
        os.replace(hidden, path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        hidden.unlink(missing_ok=True)


def load(name_or_path: str | Path) -> Model:
    """A model from the folder of a training, or a shipped one by its name.

    Raises `FormatError` for a folder that holds no model or a damaged one, `ModelError` when there is no such folder or
    name, or when the weights do not belong to the card.
    """
    path = _folder(name_or_path)
    try:
        card = Card.from_json((path / CARD).read_text(encoding="utf-8"), str(path / CARD))
        tensors = load_file(path / WEIGHTS)
    except FileNotFoundError as error:
        raise FormatError(f"{path}: expected a harmose model, got no {Path(error.filename or WEIGHTS).name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: the model cannot be read ({error})") from None
    except (SafetensorError, ValueError) as error:
        raise FormatError(
            f"{path / WEIGHTS}: expected model weights, got a truncated or damaged file ({error})"
        ) from None
    return _assemble(card, tensors, path)


def _folder(name_or_path: str | Path) -> Path:
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
    space = target_space(card.basis, card.spin)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and soon replaced
        network = TwoStage(space, card.model)
    expected = network.state_dict()
    found = _with_prefix(tensors, "network.")
    missing = sorted(set(expected) - set(found))
    if missing:
        raise ModelError(f"{path}: the weights lack {missing[0]} and {len(missing) - 1} more that the card asks for")
    for name, tensor in found.items():
        if name not in expected:
            raise ModelError(f"{path}: the weights hold {name}, which the card's network does not have")
        if tensor.shape != expected[name].shape:
            want, got = tuple(expected[name].shape), tuple(tensor.shape)
            raise ModelError(f"{path}: expected {name} of shape {want} by the card, got {got}")
    network.load_state_dict(found)
    baseline = from_state(space, _with_prefix(tensors, "baseline."))
    return Model(network.eval().requires_grad_(False), baseline, card)


def _with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
