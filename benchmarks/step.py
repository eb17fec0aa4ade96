"""Time a training step of ten molecules and a prediction of one, on one thread, and say where the time goes.

    python benchmarks/step.py MODEL STORE

Medians over repeats after a warm-up, in milliseconds of processor time; the profile is that of stage 1's training step.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import harmose
from harmose.data.dataset import load_dataset
from harmose.data.store import Store
from harmose.nn.model import add
from harmose.train.loss import block_loss, degree_weights

REPEATS = 40


def milliseconds(work: Callable[[int], object]) -> str:
    """Median and range of the processor time of `work(k)`."""
    times = []
    for k in range(-5, REPEATS):
        start = time.process_time()
        work(k % 20)
        if k >= 0:
            times.append(1e3 * (time.process_time() - start))
    return f"{statistics.median(times):6.1f} ms  ({min(times):.1f} to {max(times):.1f})"


def main(model_path: str, store_path: str) -> None:
    torch.set_num_threads(1)
    model = harmose.load(model_path)
    with Store.open(store_path) as store:
        names = store.names()[:100]
        dataset = load_dataset(store, names, model.baseline, model.card.target)
        samples = [store[name] for name in names[:20]]
    network, weights = model.network.train(), degree_weights(model.baseline.space)
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=True)
    batches = [dataset.batch(np.random.default_rng(k).permutation(len(names))[:10]) for k in range(20)]

    def step(k: int, full: bool = False) -> None:
        first = network.stage1(batches[k].graph)
        predicted = add(first[0], network.stage2(batches[k].graph, first)) if full else first[0]
        optimizer.zero_grad()
        block_loss(weights, predicted, batches[k]).backward()
        optimizer.step()

    print(f"{len(network.stage1_parameters())} tensors, {sum(p.numel() for p in network.parameters()):,} parameters")
    print(f"training step, stage 1, batch of 10    {milliseconds(step)}")
    print(f"training step, both stages             {milliseconds(lambda k: step(k, full=True))}")
    print(f"collating the batch                    {milliseconds(lambda k: dataset.batch(np.arange(k, k + 10)))}")
    network.eval()
    for stage in ("stage1", "full"):
        cost = milliseconds(lambda k, stage=stage: model.predict(samples[k].structure, samples[k].prior, stage))
        print(f"prediction, {stage:<6}                     {cost}")
    network.train()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for k in range(20):
            step(k)
    events = sorted(recorded.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total, count = (
        sum(e.self_cpu_time_total for e in events),
        sum(e.count for e in events if e.key.startswith("aten::")),
    )
    print(f"stage-1 step under the profiler: {total / 2e4:.1f} ms in {count // 20} calls of operators, of which")
    for e in events[:8]:
        print(f"  {e.key:<44} {100 * e.self_cpu_time_total / total:5.1f} %   {e.count // 20:4d} calls")


if __name__ == "__main__":
    main(*sys.argv[1:])
