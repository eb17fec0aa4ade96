"""Times of DeePTB's e3 model, run by the interpreter of an environment in which `dptb` is installed; needs nothing of harmose.

    PYTHON deeptb_times.py < asked.json > found.json

Asked: positions, cell, pbc, numbers, basis ({"C": "2s2p1d"}), reach (angstrom), hidden (irreps), layers, threads, repeats, seconds.
Found: edges, parameters, and lists of [wall, processor] seconds: `step` (mean absolute error of all features, gradient, AdamW),
`predict` (graph as given -> blocks). The embedding is `slem`, DeePTB's strictly local one in edge frames.
"""

import contextlib
import json
import sys
import time
import warnings


def main() -> None:
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        found = times(asked)
    json.dump(found, sys.stdout)


def times(asked: dict) -> dict:
    import numpy as np
    import torch
    from dptb.data import AtomicData, AtomicDataDict
    from dptb.nn.build import build_model

    torch.set_num_threads(asked["threads"])
    torch.manual_seed(0)
    data = AtomicData.from_points(
        pos=np.array(asked["positions"]),
        r_max=asked["reach"],
        cell=np.array(asked["cell"]),
        pbc=tuple(asked["pbc"]),
        atomic_numbers=torch.tensor(asked["numbers"]),
    )
    embedding = {
        "method": "slem",
        "r_max": asked["reach"],
        "irreps_hidden": asked["hidden"],
        "n_layers": asked["layers"],
        "avg_num_neighbors": data.edge_index.shape[1] / len(asked["numbers"]),
        "n_radial_basis": 32,
        "env_embed_multiplicity": 16,
        "latent_dim": 64,
        "latent_channels": [64],
    }
    model = build_model(
        model_options={"embedding": embedding, "prediction": {"method": "e3tb"}},
        common_options={"basis": asked["basis"], "device": "cpu", "dtype": "float32", "overlap": False},
        no_check=True,
    )
    known = AtomicData.to_AtomicDataDict(data)
    model.idp(known)
    fields = AtomicDataDict.NODE_FEATURES_KEY, AtomicDataDict.EDGE_FEATURES_KEY

    def predict() -> None:
        model.transform = True
        model.eval()
        with torch.no_grad():
            model(dict(known))

    model.transform = False
    with torch.no_grad():
        targets = [torch.randn_like(model(dict(known))[field]) for field in fields]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        model.transform = False
        model.train()
        optimizer.zero_grad()
        out = model(dict(known))
        loss = torch.stack([(out[f] - t).abs().mean() for f, t in zip(fields, targets)]).sum()
        loss.backward()
        optimizer.step()
        loss.item()

    return {
        "edges": int(data.edge_index.shape[1]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "step": laps(step, asked),
        "predict": laps(predict, asked),
    }


def laps(work, asked: dict) -> list:
    """Three runs to warm up: TorchScript compiles in them."""
    for _ in range(3):
        work()
    out, begin = [], time.perf_counter()
    while len(out) < asked["repeats"] and (not out or time.perf_counter() - begin < asked["seconds"]):
        start = time.perf_counter(), time.process_time()
        work()
        out.append([time.perf_counter() - start[0], time.process_time() - start[1]])
    return out


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
