"""Training steps per second with samples in mapped files and in memory, in turn, in one process.

    python benchmarks/mapped_samples.py CONFIG data=STORE out=DIR [KEY=VALUE ...] [--steps 100] [--rounds 5]

The samples are prepared in parts as a training prepares them (or taken from an earlier preparation), and once more read into
memory and normalized. Steps of stage 1 take the batches of the same random order from both in turn. Times are of the processor;
the time of picking a batch is printed by itself, too.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console

from harmose.data.store import Store
from harmose.nn.two_stage import TwoStage
from harmose.representation.block_irreps import map_coefficients
from harmose.train.config import load_config
from harmose.train.dataset import NormalizedSamples
from harmose.train.log import Log
from harmose.train.prepare import prepare
from harmose.train.step import PhaseLoss, PhaseOptimizer
from harmose.train.stored_samples import ReleasingSamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    config.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with Store.open(config.data) as store, Log(config.out, Console(), 0, False) as log:
        dataset = prepare(config, store, log, False).dataset
    mapped = dataset.ready
    if not isinstance(mapped, ReleasingSamples):
        raise SystemExit("these samples fit into memory: give a smaller memory=")
    phase, network = config.phases.stage1, TwoStage(dataset.fit.space, config.network, config.inputs)
    loss = PhaseLoss(network, torch.device("cpu"), 0.3)
    fabric, generator = Fabric(accelerator="cpu", devices=1), torch.Generator().manual_seed(0)
    stepper = PhaseOptimizer(fabric, loss, network, generator, "stage1", phase)
    order, size = np.random.default_rng(0).permutation(len(dataset)), phase.batch_size
    spent: dict[str, list[tuple[float, float]]] = {"files": [], "memory": []}
    sources = {"files": mapped, "memory": in_memory(mapped)}
    for k in range(options.rounds):
        for name, samples in sources.items():
            picking, begin = 0.0, time.process_time()
            for step in range(options.steps):
                start = time.process_time()
                batch = samples.pick(np.take(order, np.arange(step * size, (step + 1) * size), mode="wrap"))
                picking += time.process_time() - start
                stepper.step(batch, k * options.steps + step, 0.5)
            spent[name].append((time.process_time() - begin, picking))
    for name, times in spent.items():
        steps, picks = (1000 * np.array(x) / options.steps for x in zip(*times, strict=True))
        print(
            f"{name}: {np.median(steps):.2f} ms a step ({steps.min():.2f} to {steps.max():.2f}), of which picking {np.median(picks):.2f}"
        )
    ratio = np.median([x[0] for x in spent["memory"]]) / np.median([x[0] for x in spent["files"]])
    print(
        f"{len(dataset)} samples, {mapped.stored.n_bytes / 1e9:.2f} GB: from files {100 * ratio:.1f} % of the speed from memory"
    )


def in_memory(mapped: ReleasingSamples) -> NormalizedSamples:
    """Return the same samples, read into memory and normalized."""
    whole = mapped.pick(np.arange(len(mapped.names)))
    clones = (map_coefficients(torch.clone, c) for c in (whole.targets, whole.scales))
    counts = mapped.pair_counts, mapped.atom_counts, mapped.n_elements
    return NormalizedSamples(mapped.names, whole.graph, *clones, *counts)


if __name__ == "__main__":
    main()
