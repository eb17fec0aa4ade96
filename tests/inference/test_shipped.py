"""The models in the package: each loads by its name, says what it is, is small, and predicts, also from an installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene_nanoribbon, molecule
from typer.testing import CliRunner

from harmose.cli import app
from harmose.core.graph import build_graph
from harmose.core.sample import relative_to_fermi_level
from harmose.data.store import Store
from harmose.errors import OutsideDomain
from harmose.inference.checkpoint import SHIPPED, load
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.kernel_regression.training_domain import OOD_LIMIT

NAMES = sorted(path.parent.name for path in SHIPPED.glob("*/card.json"))
MOST_BYTES = 10 * 10**6
ROOT = Path(__file__).parents[2]


def graphene_cell() -> Atoms:
    """Two atoms, 2.46 angstrom."""
    positions = [[0, 2.46 / np.sqrt(3), 3], [1.23, 1.23 / np.sqrt(3), 3]]
    return Atoms("C2", positions, cell=[[2.46, 0, 0], [-1.23, 1.23 * np.sqrt(3), 0], [0, 0, 12]], pbc=(1, 1, 0))


def bilayer_cell() -> Atoms:
    """AB, four atoms."""
    lower, upper = graphene_cell(), graphene_cell()
    upper.positions += [*(lower.positions[1] - lower.positions[0])[:2], 3.35]
    return lower + upper


def bisb_cell() -> Atoms:
    """The buckled honeycomb of one bismuth and one antimony atom, 4.24 angstrom."""
    layer = graphene_cell()
    layer.numbers[:] = 83, 51
    layer.set_cell([[4.24, 0, 0], [-2.12, 2.12 * np.sqrt(3), 0], [0, 0, 15]], scale_atoms=True)
    layer.positions[:, 2] = 6.0, 7.68
    return layer


FAMILIAR = {
    "bisb-soc-pbe-s2p2d1": bisb_cell,
    "bilayer-graphene-pbe-dzvp": bilayer_cell,
    "graphene-pbe-dzvp": graphene_cell,
    "water-pbe-def2svp": lambda: molecule("H2O"),
    "organics-b3lyp-def2svp": lambda: molecule("CH3OH"),
}
"""A structure that each is for."""


def test_there_are_models():
    assert "graphene-pbe-dzvp" in NAMES
    assert set(NAMES) <= set(FAMILIAR), "a new model needs a structure here"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_says_what_it_is(name):
    folder = SHIPPED / name
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "card.json", "README.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    for heading in ("## Data", "## Figures", "## Domain", "## Limits", "## Remake"):
        assert f"\n{heading}\n" in text
    card = load(name).card
    assert card.metrics["mae_val_full"] > 0
    assert card.training_set
    assert card.functional is not None
    assert card.functional.removesuffix("g") in name  # b3lypg is what PySCF calls b3lyp


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_what_it_is_for_from_the_command_line(name, tmp_path):
    FAMILIAR[name]().write(tmp_path / "a.xyz", format="extxyz")
    done = CliRunner().invoke(app, ["predict", name, str(tmp_path / "a.xyz"), "--out", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "store") as store:
        h = store[store.names()[0]].hamiltonian
    assert np.isfinite(h.values).all()


def test_graphene_within_what_its_card_says(graphene):
    model = load("graphene-pbe-dzvp")
    for name in ("pristine_1x1", "mg_019"):
        sample = relative_to_fermi_level(graphene(name))
        h = model.predict(sample.structure)
        errors = np.abs(h.values - sample.hamiltonian.values)[0]
        assert np.average(errors, weights=np.where(h.is_onsite, 1, 2)) < 0.5e-3


def test_graphene_flags_a_bilayer_and_a_nanoribbon():
    model = load("graphene-pbe-dzvp")
    space = model.regression.space

    def ood_score(atoms: Atoms) -> float:
        return model.domain.scores(Neighbourhoods(space, space.orient(build_graph(atoms, space.basis)))).max()

    assert ood_score(graphene_cell()) < 1
    assert ood_score(bilayer_cell()) > OOD_LIMIT
    assert ood_score(graphene_nanoribbon(4, 1, type="zigzag", C_C=1.42, vacuum=6.0)) > OOD_LIMIT
    with pytest.warns(OutsideDomain, match="outside the training domain"):
        model.predict(bilayer_cell())


def test_organics_flags_bonds_that_break():
    """Also where the elements are known at that distance, in molecules that are whole."""
    model = load("organics-b3lyp-def2svp")
    space = model.regression.space

    def is_flagged(name: str, i: int, j: int, factor: float) -> bool:
        atoms = molecule(name)
        atoms.set_distance(i, j, factor * atoms.get_distance(i, j), fix=0)
        graph = Neighbourhoods(space, space.orient(build_graph(atoms, space.basis)))
        return bool(model.domain.contact_excess(graph).any())

    bonds = (("H2O", 0, 1), ("CH4", 0, 1), ("CO", 0, 1), ("N2", 0, 1), ("H2", 0, 1), ("C2H6", 0, 1), ("CH3CH2OH", 2, 3))
    for name, i, j in bonds:
        assert is_flagged(name, i, j, 2.0), name
        assert is_flagged(name, i, j, 3.5), name
        assert name == "H2" or not is_flagged(name, i, j, 1.0), name


def test_models_come_with_the_wheel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        found = set(file.namelist())
        file.extractall(tmp_path / "installed")
    for name in NAMES:
        assert {f"harmose/models/{name}/{x}" for x in ("model.safetensors", "card.json", "README.md")} <= found
    FAMILIAR[NAMES[0]]().write(tmp_path / "a.xyz", format="extxyz")
    command = [sys.executable, "-m", "harmose", "predict", NAMES[0], "a.xyz", "--out", "store"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "store").exists()
