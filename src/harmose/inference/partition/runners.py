"""Runners of a prediction in parts: this process, or the workers of a Dask scheduler, which keep the features of their edges."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lazy_loader
import torch
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits

from harmose.errors import ConfigError
from harmose.inference.partition.part_model import PartModel, PartResult, PreparedPart
from harmose.inference.partition.parts import Part
from harmose.nn.ops.features import EdgeFeatures

distributed = lazy_loader.load("distributed")  # imported on first use

S = TypeVar("S")
T = TypeVar("T")

PATIENCE = "20s"
"""Time to wait for a scheduler."""


class Runner(Protocol):
    """Evaluates one pass (`PartModel.run`) on all parts."""

    def results(self, k: int, atoms: Any) -> Iterator[tuple[Part, PartResult]]:
        """Yield every part, in any order, with its result without edge features, from the features of all atoms."""
        ...


class LocalRunner:
    """Runs as many parts at a time as PyTorch has threads; features of edges are in memory, or in files of `folder`.

    `keeps_frames`: frames of the edges are computed once, not in each layer.
    """

    def __init__(
        self, model: PartModel, parts: Sequence[Part], folder: Path | None, keeps_frames: bool = False
    ) -> None:
        self.model, self.parts, self.folder, self.keeps_frames = model, parts, folder, keeps_frames
        self._edges: list[EdgeFeatures | None] = [None] * len(parts)
        self._prepared: dict[int, PreparedPart] = {}
        _ = model.neighbourhoods  # computed once, before the threads start

    def results(self, k: int, atoms: Any) -> Iterator[tuple[Part, PartResult]]:
        def work(n: int) -> PartResult:
            part = self.parts[n]
            prepared = self._prepared.pop(n, None) or self.model.prepare(part)
            answer = self.model.run(k, part, of_part(atoms, part), self._take(n, k), prepared)
            self._keep(n, answer.edges)
            if self.keeps_frames and k < self.model.n_passes - 1:
                self._prepared[n] = prepared
            return answer._replace(edges=None)

        yield from zip(self.parts, on_threads(work, range(len(self.parts))), strict=True)

    def _take(self, n: int, k: int) -> EdgeFeatures | None:
        if self.folder is None or k == 0:
            return self._edges[n]
        return EdgeFeatures(**load_file(self._file(n)))

    def _keep(self, n: int, edges: EdgeFeatures | None) -> None:
        if self.folder is None:
            self._edges[n] = edges
        elif edges is not None:
            save_file({name: x.contiguous() for name, x in edges._asdict().items()}, self._file(n))

    def _file(self, n: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{n}.safetensors"


def on_threads(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Yield `work(item)` in order, with as many threads as PyTorch has; no further ahead, since results are large."""
    with one_thread_each() as n_workers, ThreadPoolExecutor(n_workers) as pool:
        running: deque[Future[T]] = deque()
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > n_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Limit PyTorch and NumPy to one thread per operation, and return the number of threads that PyTorch had.

    Most operations of a part are small and gain nothing from threads of their own; parts run on threads instead.
    """
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield n
    finally:
        torch.set_num_threads(n)


class DaskRunner:
    """Runs parts on the workers of a Dask scheduler; each worker keeps the edge features of its parts."""

    def __init__(self, client: Any, model: PartModel, parts: Sequence[Part]) -> None:
        self.client, self.parts = client, parts
        self._model = client.scatter(model, broadcast=True, hash=False)
        self._edges: list[Any] = [None] * len(parts)

    @classmethod
    @contextmanager
    def connected(cls, model: PartModel, parts: Sequence[Part], scheduler: str) -> "Iterator[DaskRunner]":
        """Connect; `ConfigError` when there is no scheduler at this address, or it has no worker."""
        try:
            with distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False) as client:
                if not client.nthreads():
                    raise ConfigError(f"the Dask scheduler {scheduler}: expected workers, got none")
                yield cls(client, model, parts)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot work with the Dask scheduler {scheduler}: {error}") from None

    def results(self, k: int, atoms: Any) -> Iterator[tuple[Part, PartResult]]:
        number, submit = {}, self.client.submit
        for n, part in enumerate(self.parts):
            done = submit(PartModel.run, self._model, k, part, of_part(atoms, part), self._edges[n], pure=False)
            self._edges[n] = submit(_edges, done, pure=False)
            number[submit(_others, done, pure=False)] = n
        for future in distributed.as_completed(number, loop=self.client.loop):
            yield self.parts[number[future]], future.result()
            future.release()


def _edges(answer: PartResult) -> EdgeFeatures | None:
    return answer.edges


def _others(answer: PartResult) -> PartResult:
    return answer._replace(edges=None)


def of_part(atoms: Any, part: Part) -> Any:
    """Return the features of the atoms of a part, from those of all atoms."""
    if atoms is None:
        return None
    chosen = torch.as_tensor(part.atoms)
    return type(atoms)(*(x.index_select(0, chosen) if len(x) else x for x in atoms))
