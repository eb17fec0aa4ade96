"""2. Label a few geometries, train a small model, and see what each of its parts adds.

    python examples/2_train_small.py

Writes the store `water.store` and the model `water.model` to the current folder. A real
training has hundreds of geometries, a larger basis set and minutes of time: `harmose label`
and `harmose train configs/water.yaml`.
"""

import numpy as np
from ase.build import molecule
from rich.console import Console

import harmose
from harmose.label.label import PySCFSettings, calculate
from harmose.train.config import TrainConfig
from harmose.train.engine import train

# Labels: water with displaced atoms. All samples of a store have the same basis set.
settings = PySCFSettings(functional="pbe", basis="sto-3g", grid_level=1)
samples = []
for k in range(30):
    atoms = molecule("H2O")
    atoms.rattle(0.03, seed=k)
    samples.append(calculate(atoms, settings, name=f"water-{k}"))
with harmose.Store.create("water.store", samples[0].basis, metadata=settings.to_dict()) as store:
    store.append_all(samples)
    names = store.names()
    # Validation chooses the best weights and calibrates the error bounds; the test split is for the table below.
    store.set_splits({"train": names[:16], "val": names[16:22], "test": names[22:]})

# H = regression + stage 1 + stage 2. Each phase trains networks on what the parts before it
# leave. `phases` are given in steps here; a real training gives `time_limit` and shares of it
# instead.
config = TrainConfig(
    data="water.store",
    out="water.model",
    regression="kernel",
    network={"stage1": {"scalars": 16, "so2_channels": 8, "channels": 8, "pseudo_channels": 4, "layers": 1}},
    phases={"stage1": {"steps": 60}, "stage2": {"steps": 20}, "joint": {"steps": 0}},
    validations=2,
    tensorboard=False,
)
train(config, Console(quiet=True))

# The mean absolute error of H after each part, on geometries that training has not seen.
model = harmose.load("water.model")
test = samples[22:]
print("mean absolute error of H (meV)")
for stage in ("regression", "stage1", "full"):
    differences = [model.predict(s.structure, stage=stage) - s.hamiltonian for s in test]
    error = np.mean([np.abs(difference.dense()).mean() for difference in differences])
    print(f"  {stage:10}  {1000 * error:8.3f}")
