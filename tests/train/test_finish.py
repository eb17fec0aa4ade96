"""The card of a finished training says which charges and unpaired electrons the training set had."""

import pytest

from harmose.cli import main
from harmose.data.store import Store
from harmose.errors import ModelError
from harmose.inference.checkpoint import load
from harmose.train.engine import train


def test_a_model_of_ions(tmp_path, small_config, water_basis, water_sample, water_atoms, capsys):
    path = tmp_path / "ions"
    with Store.create(path, water_basis, metadata={"basis": "sto-3g"}) as store:
        for seed in range(6):
            sample = water_sample(seed)
            if seed % 2:
                sample.structure.info["charge"] = 2
            store.append(sample)
        names = store.names()
        store.set_splits({"train": names[:4], "val": names[4:]})
    out = train(small_config("model", f"data={path}", *(f"phases.{p}.steps=0" for p in ("stage1", "stage2", "joint"))))
    model = load(out)
    assert (model.card.charges, model.card.unpaired) == ((0, 2), (0,))
    assert main(["evaluate", str(out), str(path)]) == 0, capsys.readouterr().err
    ion = water_atoms(7)
    for charge in (0, 2):
        ion.info["charge"] = charge
        assert model.predict(ion).n_orbitals == 7
    ion.info["charge"] = 1
    with pytest.raises(ModelError, match="expected a total charge of 0 or 2, as in the training set, got 1"):
        model.predict(ion)
