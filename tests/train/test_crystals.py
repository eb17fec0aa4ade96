"""Training on crystals: cells smaller than the orbitals' reach, of mixed sizes; the Fermi level of a prediction is zero."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms

from harmose.cli import main
from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.store import Store, new_store
from harmose.errors import BasisError, MatrixError, ModelError, OutsideDomain
from harmose.inference.checkpoint import Model, load
from harmose.inference.energy_zero import fermi_mesh
from harmose.io.basis_sets import basis, overlap
from harmose.physics.states import mesh_fermi_level
from harmose.train.config import load_config
from harmose.train.engine import train

VALENCE = {"H": 1, "Li": 3}


@pytest.fixture(scope="session")
def chain_basis() -> BasisSet:
    known = basis("sto-3g", ["H", "Li"]).basis
    return BasisSet(known.name, known.shells, {1: 2.2, 3: 2.6})


def chain(seed: int, symbols: str = "HLi", displacement: float = 0.05) -> Atoms:
    """A zigzag chain along x, its atoms moved at random."""
    n = len(Atoms(symbols))
    straight = np.stack([1.9 * np.arange(n), 0.4 * (-1.0) ** np.arange(n), np.zeros(n)], 1)
    moved = straight + displacement * np.random.default_rng(seed).normal(size=(n, 3))
    return Atoms(symbols, moved, cell=np.diag([1.9 * n, 12, 12]), pbc=(True, False, False))


def labelled(name: str, atoms: Atoms, shells: BasisSet) -> Sample:
    """Extended Hueckel: `H = 1.75 S (e_i + e_j) / 2` with one energy for each atom, which knows its neighbours."""
    s = overlap(atoms, shells)
    pairs, where = s.pairs, s.keys
    size = np.abs(s.values[0])
    strength = np.add.reduceat(size, s.offsets[:-1])[len(atoms) :]
    onsite = np.where(atoms.numbers == 1, -13.6, -5.4).astype(float)
    for end in (0, 1):
        np.add.at(onsite, pairs[:, end], -0.2 * strength)
    factor = np.where(np.arange(len(where)) < len(atoms), 1.0, 1.75) * onsite[where[:, :2]].mean(1)
    h = s.with_values(s.values * np.repeat(factor, np.diff(s.offsets)))
    n = float(sum(VALENCE[a] for a in atoms.get_chemical_symbols()))
    level = mesh_fermi_level(h, s, fermi_mesh(atoms), n)
    return Sample(name, atoms, shells, h, s, n_electrons=n, fermi_level=level)


@pytest.fixture(scope="session")
def crystals(tmp_path_factory, chain_basis) -> Path:
    path = tmp_path_factory.mktemp("crystals") / "store"
    structures = [chain(seed, ("HLi", "HLiHLi", "H2", "LiHLi")[seed % 4]) for seed in range(16)]
    with new_store(path, chain_basis, metadata={"code": "model", "valence": VALENCE}) as store:
        for k, atoms in enumerate(structures):
            store.append(labelled(f"c{k}", atoms, chain_basis))
        store.set_splits({"train": [f"c{k}" for k in range(12)], "val": [f"c{k}" for k in range(12, 16)]})
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, crystals) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    small = {"stage1": {"channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4, "pseudoscalars": 2,
                         "hidden": 8, "radial": 8, "layers": 1},
             "stage2": {"heads": 2, "channels": 4, "pseudo_channels": 2, "scalars": 8, "so2_channels": 4,
                         "pseudoscalars": 2, "hidden": 8, "mlp_layers": 1, "turns": 2}}  # fmt: skip
    phases = {name: {"steps": 10, "batch_size": 3} for name in ("stage1", "stage2")} | {"joint": {"share": 0.0}}
    settings = {
        "network": small,
        "phases": phases,
        "accelerator": "cpu",
        "tensorboard": False,
        "energy_zero": "fermi_of_prediction",
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))
    return train(load_config(folder / "c.yaml", [f"data={crystals}", f"out={folder / 'model'}"]))


@pytest.fixture(scope="session")
def model(trained) -> Model:
    return load(trained)


def test_a_model_of_crystals_says_so(model):
    assert model.card.periodic
    assert model.card.energy_zero == "fermi_of_prediction"


@pytest.mark.parametrize("stage", ["stage1", "full"])
def test_the_fermi_level_of_a_prediction_is_zero(model, stage):
    atoms = chain(14, "H")
    h = model.predict(atoms, stage=stage)
    assert np.abs(h.pairs[:, 2:]).max() > 1  # the second image and further ones
    level = mesh_fermi_level(h, overlap(atoms, h.basis), fermi_mesh(atoms), 1.0)
    assert abs(level) < 1e-9


def test_it_has_learned_what_neighbours_do(model, crystals):
    with Store.open(crystals) as store:
        for name in store.splits["val"]:
            sample = model.card.target.sample(store[name])
            error = np.abs(model.predict(sample.structure).values - sample.hamiltonian.values).mean()
            assert error < 0.1 * np.abs(sample.hamiltonian.values - sample.hamiltonian.values.mean()).mean()


def test_a_cell_twice_as_large_has_the_same_blocks(model):
    atoms = chain(3, "HLi")
    single, double = model.predict(atoms), model.predict(atoms.repeat((2, 1, 1)))
    shift = None
    for i, j, cell in ((0, 0, 1), (0, 1, 0), (0, 1, -1), (1, 1, 1)):
        inside = double.block(i, j + 2 * (cell % 2), (cell // 2, 0, 0))
        difference = inside - single.block(i, j, (cell, 0, 0))
        s = overlap(atoms, single.basis).block(i, j, (cell, 0, 0))
        # other k-points give another Fermi level: blocks are the same but for c S, with one c
        c = float((difference * s).sum() / (s * s).sum())
        np.testing.assert_allclose(difference, c * s, atol=1e-4)
        shift = c if shift is None else shift
        assert c == pytest.approx(shift, abs=2e-4 / np.abs(s).max())


def test_other_surroundings_are_warned_of(model):
    far = chain(0, "HLi", 0.0)
    model.predict(far)
    far.positions[:, 1] *= 2.5
    with pytest.warns(OutsideDomain, match="outside the training domain: 2 of 2 atoms"):
        model.predict(far)


def test_the_command_line_warns_in_one_line(trained, tmp_path, capsys):
    far = chain(0, "HLi", 0.0)
    far.positions[:, 1] *= 2.5
    far.write(tmp_path / "far.xyz")
    assert main(["bands", str(trained), str(tmp_path / "far.xyz"), "--path", "GX", "--points", "5"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "outside the training domain" in line]
    assert len(warned) == 1
    assert warned[0].startswith("harmose: warning: outside")


def test_evaluation_compares_in_the_gauge_of_the_model(trained, crystals, capsys):
    assert main(["evaluate", str(trained), str(crystals), "--rotations", "1", "--max-samples", "2"]) == 0
    out = capsys.readouterr().out
    assert "meV" in out
    assert "Band energies" in out


def test_labels_without_a_fermi_level_are_refused(trained, crystals, chain_basis, tmp_path, capsys):
    with new_store(tmp_path / "bare", chain_basis, metadata={"code": "model"}) as store:
        store.append(replace(labelled("bare", chain(0), chain_basis), fermi_level=None))
    assert main(["evaluate", str(trained), str(tmp_path / "bare")]) == 2
    assert "sample bare: energies relative to the Fermi level need S and a Fermi level" in capsys.readouterr().err


def test_learning_in_the_fermi_gauge_itself(crystals, chain_basis):
    from harmose.representation.concatenation import TargetSettings, block_irreps, compute_targets

    sample = labelled("c", chain(1), chain_basis)
    space = block_irreps(chain_basis)
    target = compute_targets(space, [sample], TargetSettings(fermi=True)).target
    np.testing.assert_allclose(
        target.values, sample.hamiltonian.values - sample.fermi_level * sample.overlap.values, atol=1e-12
    )
    with pytest.raises(MatrixError, match="got no Fermi level"):
        compute_targets(space, [replace(sample, fermi_level=None)], TargetSettings(fermi=True))


def test_what_a_fermi_level_needs_is_asked_for_before_training(crystals, chain_basis, tmp_path):
    unknown = BasisSet("numerical", chain_basis.shells, chain_basis.radii)
    for shells, metadata, error, words in (
        (chain_basis, {"code": "model"}, ModelError, "the labels' valence electrons"),
        (unknown, {"valence": VALENCE}, BasisError, "basis numerical: expected one whose radial functions PySCF has"),
    ):
        path = tmp_path / shells.name
        sample = labelled("a", chain(0), chain_basis)
        moved = {name: replace(getattr(sample, name), basis=shells) for name in ("hamiltonian", "overlap")}
        with new_store(path, shells, metadata=metadata) as store:
            for name in ("train", "val"):
                store.append(replace(sample, name=name, basis=shells, **moved))
            store.set_splits({"train": ["train"], "val": ["val"]})
        (tmp_path / "c.yaml").write_text("energy_zero: fermi_of_prediction\n")
        with pytest.raises(error, match=words):
            train(load_config(tmp_path / "c.yaml", [f"data={path}", f"out={tmp_path / 'out'}", "time_limit=1min"]))
