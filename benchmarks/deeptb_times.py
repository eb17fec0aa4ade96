"""Time DeePTB's e3 model. Runs in an environment that has `dptb` and does not need harmose.

    PYTHON deeptb_times.py < request.json > reply.json

The request has positions, cell, pbc, numbers, basis ({"C": "2s2p1d"}), reach (angstrom), hidden (irreps), layers,
threads, repeats, seconds. The reply has edges, parameters, and lists of [wall, processor] seconds: `step` (mean
absolute error of all features, gradient, AdamW) and `predict` (from graph to blocks). The embedding is `slem`, DeePTB's
strictly local one in edge frames.
"""

import contextlib
import json
import sys
import time
import warnings


def main() -> None:
    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        reply = times(request)
    json.dump(reply, sys.stdout)


def times(request: dict) -> dict:
    import numpy as np
    import torch
    from dptb.data import AtomicData, AtomicDataDict
    from dptb.nn.build import build_model

    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    data = AtomicData.from_points(
        pos=np.array(request["positions"]),
        r_max=request["reach"],
        cell=np.array(request["cell"]),
        pbc=tuple(request["pbc"]),
        atomic_numbers=torch.tensor(request["numbers"]),
    )
    embedding = {
        "method": "slem",
        "r_max": request["reach"],
        "irreps_hidden": request["hidden"],
        "n_layers": request["layers"],
        "avg_num_neighbors": data.edge_index.shape[1] / len(request["numbers"]),
        "n_radial_basis": 32,
        "env_embed_multiplicity": 16,
        "latent_dim": 64,
        "latent_channels": [64],
    }
    model = build_model(
        model_options={"embedding": embedding, "prediction": {"method": "e3tb"}},
        common_options={"basis": request["basis"], "device": "cpu", "dtype": "float32", "overlap": False},
        no_check=True,
    )
    inputs = AtomicData.to_AtomicDataDict(data)
    model.idp(inputs)
    fields = AtomicDataDict.NODE_FEATURES_KEY, AtomicDataDict.EDGE_FEATURES_KEY

    def predict() -> None:
        model.transform = True
        model.eval()
        with torch.no_grad():
            model(dict(inputs))

    model.transform = False
    with torch.no_grad():
        targets = [torch.randn_like(model(dict(inputs))[field]) for field in fields]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        model.transform = False
        model.train()
        optimizer.zero_grad()
        out = model(dict(inputs))
        loss = torch.stack([(out[f] - t).abs().mean() for f, t in zip(fields, targets)]).sum()
        loss.backward()
        optimizer.step()
        loss.item()

    return {
        "edges": int(data.edge_index.shape[1]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "step": laps(step, request),
        "predict": laps(predict, request),
    }


def laps(work, request: dict) -> list:
    """Wall and processor seconds of each repeat, after three runs in which TorchScript compiles."""
    for _ in range(3):
        work()
    out, begin = [], time.perf_counter()
    while len(out) < request["repeats"] and (not out or time.perf_counter() - begin < request["seconds"]):
        start = time.perf_counter(), time.process_time()
        work()
        out.append([time.perf_counter() - start[0], time.process_time() - start[1]])
    return out


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
