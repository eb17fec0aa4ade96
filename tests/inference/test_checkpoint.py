"""Models on disk: what is written is what is read; what is not a model, or not for this request, is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from safetensors.torch import load_file, save_file

import harmose
from harmose.core.basis import BasisSet
from harmose.data.store import Store
from harmose.errors import BasisError, FormatError, ModelError, StructureError
from harmose.inference.card import VERSION
from harmose.inference.checkpoint import CARD, WEIGHTS, Card, Model, load, save
from harmose.inference.upgrades import STAGE_1, STAGE_2
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set
from harmose.io.pyscf.pyscf import prior as pyscf_prior
from harmose.kernel_regression.state import from_state, to_state
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.stage2.settings import Stage2Settings
from harmose.nn.two_stage import NetworkSettings, TwoStage
from harmose.representation.concatenation import TargetSettings
from harmose.spin import Spin
from harmose.train.fit import fit_to_samples, load_targets
from harmose.uncertainty.llpr import fit_last_layer

SETTINGS = NetworkSettings(Stage1Settings(4, 2, 8, 4, 2, 8, 8, 1), Stage2Settings(2, 4, 2, 8, 4, 2, 8, 1, 2))
LABELS = {"code": "pyscf", "functional": "pbe", "basis": "sto-3g", "grid_level": 0}


@pytest.fixture
def model(water_store) -> Model:
    """A fitted regression, and a network with random numbers in all its weights."""
    with Store.open(water_store) as store:
        fit = fit_to_samples(load_targets(store, store.splits["train"], TargetSettings()))
        basis = store.basis
    torch.manual_seed(3)
    network = TwoStage(fit.space, SETTINGS)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape) * 0.1)
    card = Card(basis, Spin.NONE, SETTINGS, fit.space.l_max, settings=LABELS, n_train=6, metrics={"mae_val": 0.1})
    return Model(card, fit.normalizer, fit.regression, network.eval().requires_grad_(False), fit.domain)


@pytest.fixture
def folder(model, tmp_path):
    save(model, tmp_path / "model")
    return tmp_path / "model"


def change_card(folder, **changes) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


def test_round_trip(model, folder, water_atoms):
    again = load(folder)
    assert again.card == model.card
    atoms = water_atoms(20)
    for stage in ("stage1", "full"):
        a, b = model.predict(atoms, stage=stage), again.predict(atoms, stage=stage)
        np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-9)
    assert np.abs(a.values - again.predict(atoms, stage="stage1").values).max() > 1e-6
    assert {p.name for p in folder.iterdir()} == {WEIGHTS, CARD}
    card = json.loads((folder / CARD).read_text())
    assert card["elements"] == ["H", "O"]
    assert card["basis_fingerprint"] == model.card.basis.fingerprint
    assert load_file(folder / WEIGHTS)["network.stage1.encoder.embed.weight"].dtype == torch.float32
    regression = {k: v for k, v in load_file(folder / WEIGHTS).items() if k.startswith("regression.")}
    assert all(v.dtype != torch.float32 for k, v in regression.items() if not k.endswith("domain.whiten"))


def test_many_predictions_are_those_one_by_one(model, water_atoms):
    structures = [water_atoms(30), molecule("H2"), water_atoms(31)]
    together = model.predict_many(structures)
    for atoms, h in zip(structures, together, strict=True):
        alone = model.predict(atoms)
        assert np.array_equal(h.pairs, alone.pairs)
        np.testing.assert_allclose(h.values, alone.values, rtol=0, atol=1e-4)
    assert model.predict_many([]) == []


def test_a_prior_is_added_given_or_computed(model, water_atoms):
    needy = replace(model, card=replace(model.card, needs_prior=True))
    atoms = water_atoms(20)
    h0 = pyscf_prior(atoms, PySCFSettings(functional="pbe", basis="sto-3g", grid_level=0), model.card.basis)
    expected = model.predict(atoms).values + h0.values
    np.testing.assert_allclose(needy.predict(atoms, prior=h0).values, expected, atol=1e-9)
    np.testing.assert_allclose(needy.predict(atoms).values, expected, atol=1e-6)
    # the same matrix in a basis set that holds another element as well
    wide = basis_set("sto-3g", [1, 6, 8])
    wider = pyscf_prior(atoms, PySCFSettings(functional="pbe", basis="sto-3g", grid_level=0), wide)
    np.testing.assert_allclose(needy.predict(atoms, prior=wider).values, expected, atol=1e-6)
    with pytest.raises(ModelError, match="expected a prior of the same structure"):
        needy.predict(atoms, prior=pyscf_prior(molecule("H2"), PySCFSettings(basis="sto-3g"), model.card.basis))
    with pytest.raises(ModelError, match="expected a prior in basis sto-3g with the model's shells, got def2-svp"):
        needy.predict(atoms, prior=pyscf_prior(atoms, PySCFSettings(basis="def2-svp")))
    foreign = replace(model, card=replace(needy.card, settings={"code": "siesta"}))
    with pytest.raises(ModelError, match="needs the prior H0 of siesta"):
        foreign.predict(atoms)


def test_requests_outside_the_card(model):
    with pytest.raises(ModelError, match=r"expected elements of the training set \(H, O\), got C"):
        model.predict(molecule("CH4"))
    with pytest.raises(ModelError, match=r"expected a molecule, as in the model's training set, got pbc"):
        model.predict(bulk("O", "sc", a=4.0))
    with pytest.raises(ModelError, match="stage: expected one of prior, pairs, regression, stage1, full, got 'both'"):
        model.predict(molecule("H2O"), stage="both")
    broken = molecule("H2O")
    broken.positions[1] = broken.positions[0]
    with pytest.raises(StructureError):
        model.predict(broken)


def test_names(tmp_path, folder, monkeypatch):
    with pytest.raises(ModelError, match=r"nothing: no such model: expected a folder or one of the shipped models \("):
        load("nothing")
    monkeypatch.setattr("harmose.inference.checkpoint.SHIPPED", tmp_path)
    assert load("model").card.n_train == 6
    with pytest.raises(ModelError, match=r"shipped models \(model\)"):
        load("nothing")
    with pytest.raises(FormatError, match="expected the folder of a model, got a file"):
        load(folder / CARD)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_folder_without_a_model(folder, name):
    (folder / name).unlink()
    with pytest.raises(FormatError, match=f"expected a harmose model, got no {name}"):
        load(folder)


@pytest.mark.parametrize("size", [0, 7, 300, 20000])
def test_truncated_weights(folder, size):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:size])
    with pytest.raises(
        FormatError, match=r"model\.safetensors: expected model weights, got a truncated or damaged file"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the card of a harmose model"),
        ("{", "expected the card of a harmose model"),
        ("[]", "expected the card of a harmose model"),
        ('{"format": "zip", "version": 1}', "got something else \\(format 'zip'\\)"),
        ('{"format": "harmose-model", "version": 7}', f"version {VERSION} or older, got version 7"),
        ('{"format": "harmose-model", "version": 1}', "the model card is corrupt"),
        ("[" * 100_000, "expected the card of a harmose model"),
    ],
)
def test_cards_that_are_none(folder, text, words):
    (folder / CARD).write_text(text)
    with pytest.raises(FormatError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"l_max": 8}, "l_max 8 does not belong to the basis set"),
        ({"basis_fingerprint": "0" * 16}, "does not have the fingerprint"),
        ({"spin": "sideways"}, "the model card is corrupt"),
        ({"version": "3"}, "got something else .version '3'"),
        ({"settings": None}, "the model card is corrupt .settings None"),
        ({"needs_prior": "no"}, "the model card is corrupt .needs_prior 'no'"),
        ({"metrics": 3}, "the model card is corrupt .metrics 3"),
        ({"network": {"stage1": {"channels": 4, "turbo": 1}, "stage2": {}}}, "the model card is corrupt"),
        ({"network": {"stage1": {"channels": 10**9}, "stage2": {}}}, "the model card is corrupt"),
        ({"network": {"stage1": {"channels": "x"}, "stage2": {}}}, "the model card is corrupt"),
        ({"network": {"stage1": {"channels": True}, "stage2": {}}}, "the model card is corrupt"),
        ({"network": {"stage1": {}, "stage2": {"symmetry": "some"}}}, "the model card is corrupt .stage2.symmetry: "),
        ({"network": {"stage1": {}, "stage2": {"attention": 1}}}, "the model card is corrupt .stage2.attention: "),
    ],
)
def test_cards_with_nonsense(folder, changes, words):
    change_card(folder, **changes)
    with pytest.raises(FormatError, match=words):
        load(folder)


def test_a_card_of_version_1_has_learned_symmetry(model, tmp_path, water_atoms):
    refiner = replace(SETTINGS.stage2, symmetry="learned")
    settings = replace(SETTINGS, stage2=refiner)
    torch.manual_seed(4)
    network = TwoStage(model.space, settings).eval().requires_grad_(False)
    save(replace(model, network=network, card=replace(model.card, network=settings)), tmp_path / "old")
    card = json.loads((tmp_path / "old" / CARD).read_text())
    card["model"] = {"encoder": dict(card["network"]["stage1"]), "refiner": dict(card.pop("network")["stage2"])}
    for part, names in (("encoder", STAGE_1), ("refiner", STAGE_2)):
        for old, new in names.items():
            card["model"][part][old] = card["model"][part].pop(new)
    for key in ("symmetry", "directions", "rotate", "covariant", "baseline", "attention"):
        del card["model"]["refiner"][key]
    (tmp_path / "old" / CARD).write_text(json.dumps(card | {"version": 1}))
    again = load(tmp_path / "old")
    assert again.card.network.stage2 == refiner
    assert not again.card.network.bounded
    torch.manual_seed(4)
    unbounded = TwoStage(model.space, replace(settings, bounded=False)).eval().requires_grad_(False)
    a, b = (m.predict(water_atoms(20)) for m in (replace(model, network=unbounded, card=model.card), again))
    np.testing.assert_array_equal(a.values, b.values)
    assert np.abs((model.predict(water_atoms(20)) - b).values).max() > 1e-6


def test_round_trip_of_a_last_layer(model, tmp_path, water_atoms):
    """Its matrices are written in float32; the numbers at which stages fade may be infinite."""
    layer = fit_last_layer(model.network, [model.inputs([water_atoms(k) for k in range(5)]).batch])
    layer.half[:] = 0.5, np.inf
    faded = replace(model, last_layer=layer)
    save(faded, tmp_path / "faded")
    again, atoms = load(tmp_path / "faded"), water_atoms(20)
    np.testing.assert_array_equal(again.last_layer.half, layer.half)
    np.testing.assert_allclose(again.predict(atoms).values, faded.predict(atoms).values, atol=1e-6)
    assert np.abs((again.predict(atoms) - model.predict(atoms)).values).max() > 1e-4
    tensors = load_file(tmp_path / "faded" / WEIGHTS)
    save_file(tensors | {"last_layer.half": torch.zeros(2)}, tmp_path / "faded" / WEIGHTS)
    with pytest.raises(ModelError, match="expected two positive numbers, got half"):
        load(tmp_path / "faded")


def test_weights_of_another_network(folder):
    tensors = load_file(folder / WEIGHTS)
    first = "network.stage1.encoder.embed.weight"
    save_file({k: v for k, v in tensors.items() if k != first}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"the weights lack stage1\.encoder\.embed\.weight and 0 more"):
        load(folder)
    save_file(tensors | {first: torch.zeros(3, 3)}, folder / WEIGHTS)
    with pytest.raises(
        ModelError, match=r"expected stage1\.encoder\.embed\.weight of shape \(8, 8\) by the card, got \(3, 3\)"
    ):
        load(folder)
    save_file(tensors | {"network.extra": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="the weights hold extra, which the card's network does not have"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("normalizer.onsite_scale.0", "the normalizer is not complete"),
        ("normalizer.pair_scale.0", "the regression and the normalizer are of other pairs of elements"),
        ("regression.onsite.0.mean", "the regression does not belong to the card: no tensor 'mean'"),
        (
            "regression.onsite.0.expansion_0.distance",
            "the regression does not belong to the card: no tensor 'distance'",
        ),
        ("regression.pair.0.expansion.distance", "the regression does not belong to the card: no tensor 'distance'"),
    ],
)
def test_a_missing_part_is_refused(folder, name, words):
    tensors = load_file(folder / WEIGHTS)
    save_file({k: v for k, v in tensors.items() if k != name}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=words):
        load(folder)


@pytest.mark.parametrize("name", ["normalizer.onsite_scale.0", "normalizer.pair_scale.1", "regression.pair.1.linear.0"])
def test_parts_of_another_model_are_refused_at_loading(folder, name):
    tensors = load_file(folder / WEIGHTS)
    assert name in tensors
    save_file(tensors | {name: torch.zeros(2, 3, dtype=torch.float64)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="does not belong to the card"):
        load(folder)


@pytest.mark.parametrize("name", ["network.stage1.encoder.embed.weight", "normalizer.pair_scale.1", "domain.0.mean"])
def test_numbers_that_are_undefined_are_refused_at_loading(folder, name):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=f"expected real, finite numbers in the weights, got others in {name}"):
        load(folder)


def test_loading_does_not_disturb_random_numbers(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_saving_over_a_model_replaces_it_whole(model, folder, monkeypatch):
    before = (folder / WEIGHTS).read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harmose.core.files.os.fsync", full)
    with pytest.raises(FormatError, match="No space left on device"):
        save(model, folder)
    assert (folder / WEIGHTS).read_bytes() == before
    assert {p.name for p in folder.iterdir()} == {WEIGHTS, CARD}
    shutil.rmtree(folder)


def test_baseline_survives_exactly(model):
    again = from_state(model.space, to_state(model.regression))
    a, b = to_state(model.regression), to_state(again)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_radial_functions_travel_with_the_model(model, tmp_path, water_atoms):
    """They give S without any library; the card and the other tensors are as without them, so that older versions load it."""
    radial = harmose.basis("sto-3g", ["H", "O"]).like(model.card.basis)
    unknown = replace(model.card, basis=BasisSet("numerical", model.card.basis.shells, model.card.basis.radii))
    own = replace(model, radial=radial.like(unknown.basis), card=unknown)
    save(replace(model, card=unknown), tmp_path / "without")
    save(own, tmp_path / "with")
    without, again = load(tmp_path / "without"), load(tmp_path / "with")
    assert without.radial is None
    assert again.radial.basis == unknown.basis
    atoms = water_atoms(20)
    h = again.predict(atoms)
    np.testing.assert_allclose(
        again.overlap(h, atoms).values, model.overlap(model.predict(atoms), atoms).values, rtol=0, atol=1e-13
    )
    with pytest.raises(BasisError, match=r"give the files: .*--basis FILE"):
        without.overlap(h, atoms)
    assert (tmp_path / "with" / CARD).read_text() == (tmp_path / "without" / CARD).read_text()
    weights = load_file(tmp_path / "with" / WEIGHTS)
    added = set(weights) - set(load_file(tmp_path / "without" / WEIGHTS))
    assert {name.split(".")[0] for name in added} == {"radial"}
    weights.pop("radial.8.1.exponents")
    save_file(weights, tmp_path / "with" / WEIGHTS)
    with pytest.raises(ModelError, match=r"the radial functions do not belong to the model .*shell 1 of O"):
        load(tmp_path / "with")
