"""2. Label a few geometries, train a small model, and see what each of its parts adds.

    python examples/2_train_small.py

Writes the store `water.store` and the models `kernel.model` and `network.model` to the current
folder. A real training has hundreds of geometries, a larger basis set and minutes of time:
`harmose label` and `harmose train configs/water.yaml`.
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
    # Validation chooses the best weights and calibrates the error bounds; the test split is for
    # the table below.
    store.set_splits({"train": names[:16], "val": names[16:22], "test": names[22:]})

# H = regression + stage 1 + stage 2. Each part is fitted to what the parts before it leave. The
# kernel regression alone does best with so few labels; all phases of the network are off.
none = {"steps": 0}
kernel = TrainConfig(
    data="water.store",
    out="kernel.model",
    regression="kernel",
    phases={"stage1": none, "stage2": none, "joint": none},
    tensorboard=False,
)
train(kernel, Console(quiet=True))

# `regression="pairs"` is functions of the distances alone. It leaves work for both stages of the
# network. Phases have a number of steps here; a real training has a `time_limit` instead.
pairs = TrainConfig(
    data="water.store",
    out="network.model",
    regression="pairs",
    network={"stage1": {"scalars": 32, "so2_channels": 16}, "stage2": {"hidden": 64}},
    phases={"stage1": {"steps": 150, "warmup": 20}, "stage2": {"steps": 50, "warmup": 10}},
    validations=2,
    tensorboard=False,
)
train(pairs, Console(quiet=True))


def mean_absolute_error(model, stage):
    """Mean absolute error of H in meV on the test split, which training does not use."""
    differences = [model.predict(s.structure, stage=stage) - s.hamiltonian for s in samples[22:]]
    return 1000 * np.mean([np.abs(difference.dense()).mean() for difference in differences])


print("mean absolute error of H (meV)")
print(f"  kernel regression  {mean_absolute_error(harmose.load('kernel.model'), 'full'):8.3f}")
model = harmose.load("network.model")
print(f"  regression: pairs  {mean_absolute_error(model, 'regression'):8.3f}")
print(f"  + stage 1          {mean_absolute_error(model, 'stage1'):8.3f}")
print(f"  + stage 2          {mean_absolute_error(model, 'full'):8.3f}")
