"""The ablation table: trainings of equal processor time, one for each data set, variant and seed, evaluated alike.

    python benchmarks/ablation.py OUT --store water=STORE --store ethanol=STORE [--only SET] [--variant NAME]

`ablation.yaml` beside this file lists sets and variants; its comments explain each key. Runs are in OUT/runs. A
finished run is not repeated, so that the same command continues after a stop. After each run OUT holds the tables of
all finished runs (ablation.md) and a figure for each set. The regression is fitted once for each set and cached in
OUT/regression; it is the same for all seeds and does not count toward the time of a training.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from ablation_report import Run, write_report
from rich.console import Console

from harmose.data.store import Store
from harmose.errors import ConfigError, HarmoseError, OutsideDomain
from harmose.evaluate.evaluation import Evaluation, Prediction
from harmose.evaluate.metrics import evaluate, rotation_errors
from harmose.inference.checkpoint import Model, load
from harmose.inference.pipeline import STAGES
from harmose.kernel_regression.model import KernelRegression
from harmose.kernel_regression.neighbourhoods import Neighbourhoods
from harmose.nn.stage1.settings import Stage1Settings
from harmose.nn.two_stage import TwoStage
from harmose.representation.block_irreps import Coefficients
from harmose.representation.concatenation import block_irreps
from harmose.train.config import TrainConfig, load_config
from harmose.train.dataset import chunks
from harmose.train.engine import train

PLAN = Path(__file__).with_suffix(".yaml")
ROTATED_STRUCTURES, ROTATIONS = 2, 2
"""Number of structures, and of random rotations of each, for the rotation error."""
WIDTHS = ("channels", "pseudo_channels", "scalars", "so2_channels", "pseudoscalars", "hidden")
"""Settings of stage 1 that are widths."""


@dataclass(frozen=True)
class Variant:
    """A line of the table.

    `change` overrides the configuration of the set. With `widen`, stage 1 gets as many parameters as both stages of
    that variant.
    """

    name: str
    title: str
    change: Sequence[str] = ()
    widen: str | None = None
    sets: Sequence[str] | None = None
    """Use the variant for these sets alone."""


@dataclass(frozen=True)
class DataSet:
    """A table: a store, by the name that `--store` gives it, and a configuration with changes."""

    name: str
    title: str
    store: str
    config: str
    change: Sequence[str] = ()
    split: str = "test"
    """Split to evaluate. If the store lacks it, the first half of `val` validates and the second half is evaluated."""


@dataclass(frozen=True)
class Plan:
    """Content of `ablation.yaml`."""

    sets: Mapping[str, DataSet]
    variants: Mapping[str, Variant]
    reference: str
    """The variant that reductions are relative to, and whose worst samples and blocks are the challenging ones."""
    time_limit: str
    seeds: int
    change: Sequence[str] = ()
    """Overrides of all configurations."""
    folder: Path = field(default_factory=Path)


def read_plan(path: Path) -> Plan:
    """Read a plan; `ConfigError` if the file is not one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        sets = {name: DataSet(name, **about) for name, about in content.pop("sets").items()}
        variants = {name: Variant(name, **about) for name, about in content.pop("variants").items()}
        plan = Plan(sets, variants, folder=path.parent, **content)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: expected a plan of ablations ({error})") from None
    named = {plan.reference, *(v.widen for v in variants.values() if v.widen)}
    if missing := sorted(named - set(variants)):
        raise ConfigError(f"{path}: expected a variant {missing[0]}, which another key names")
    return plan


class CachedRegression:
    """A regression that computes its values for each graph once, for the runs on one set, which share the cache."""

    def __init__(self, regression: KernelRegression, cache: dict[bytes, Coefficients]):
        self.regression, self.cache = regression, cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self.regression, name)

    def values_of(self, graph: Neighbourhoods) -> Coefficients:
        """Values of the regression in eV. Charges need no key of their own, since they follow from the structure."""
        oriented = graph.oriented
        arrays = (oriented.species, oriented.pair_type, oriented.vectors)
        key = hashlib.sha256(b"".join(hashlib.sha256(x.tobytes()).digest() for x in arrays)).digest()
        if key not in self.cache:
            self.cache[key] = self.regression.values_of(graph)
        return self.cache[key]


class SetRuns:
    """Runs of one data set: the store, the samples to evaluate, and the cached regressions."""

    def __init__(self, plan: Plan, data: DataSet, store: Path, out: Path, limit: str):
        self.plan, self.data, self.out, self.limit, self.path = plan, data, out, limit, store
        self.caches: dict[str, dict[bytes, Coefficients]] = {}
        self.widths: dict[str, list[str]] = {}
        with Store.open(store) as opened:
            self.space = block_irreps(opened.basis, opened.spin)
            self.names, self.n_val = _test_names(opened, data, self._load("any", 0).val_split)
            self.chunks = list(chunks(opened, self.names))
        self.periodic = bool(self.chunks[0][0].structure.pbc.any())

    def config(self, variant: Variant, seed: int) -> TrainConfig:
        """Configuration of a run."""
        changes = [*variant.change]
        if variant.widen:
            if variant.name not in self.widths:
                self.widths[variant.name] = self._widths(self.plan.variants[variant.widen], variant)
            changes += self.widths[variant.name]
        return self._load(variant.name, seed, changes)

    def _load(self, name: str, seed: int, changes: Sequence[str] = ()) -> TrainConfig:
        own = [f"data={self.path}", f"out={self.out / 'runs' / self.data.name / f'{name}-{seed}'}", f"seed={seed}"]
        own += [f"regression_cache={self.out / 'regression'}", f"time_limit={self.limit}"]
        own += [f"validation_samples={self.n_val}"] if hasattr(self, "n_val") else []
        return load_config(self.plan.folder / self.data.config, [*self.plan.change, *self.data.change, *own, *changes])

    def _widths(self, whole: Variant, own: Variant) -> list[str]:
        """Widths with which stage 1 has as many parameters as both stages of another variant."""
        config = self._load(own.name, 0, whole.change)
        model, inputs = config.network, config.inputs
        goal = sum(p.numel() for p in TwoStage(self.space, model, inputs).parameters())
        low, high = 1.0, 8.0
        for _ in range(12):
            factor = (low * high) ** 0.5
            wide = replace(model, stage1=_scaled(model.stage1, factor))
            n = sum(p.numel() for p in TwoStage(self.space, wide, inputs).stage1.parameters())
            low, high = (factor, high) if n < goal else (low, factor)
        return [f"network.stage1.{k}={v}" for k, v in asdict(_scaled(model.stage1, low)).items() if k in WIDTHS]

    def run(self, variant: Variant, seed: int, console: Console) -> Run:
        """Train and evaluate, unless the run is finished."""
        config = self.config(variant, seed)
        file, settings = config.out / "evaluation.json", _settings(config, self.names)
        if (done := _finished(file, settings)) is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OutsideDomain)
                train(config, console)
                begin = time.monotonic()
                model = load(config.out)
                result = self._evaluate(self._cached(model), last_stage(config))
            console.print(f"evaluated in {time.monotonic() - begin:.1f} s", highlight=False)
            done = {"settings": settings, "n_parameters": _n_parameters(model, config), "evaluation": result.to_dict()}
            file.write_text(json.dumps(done))
        return Run(variant.name, seed, Evaluation.from_dict(done["evaluation"]), int(done["n_parameters"]))

    def _cached(self, model: Model) -> Model:
        """The same model with a cached regression, shared with runs that have the same regression."""
        if model.regression is None:
            return model
        card, scales = model.card, model.normalizer
        key = hashlib.sha256(json.dumps([card.training_set, card.needs_prior, card.energy_zero]).encode())
        for scale in (*scales.pair_scale.values(), *scales.onsite_scale.values()):
            key.update(scale.tobytes())
        regression = CachedRegression(model.regression, self.caches.setdefault(key.hexdigest(), {}))
        return replace(model, regression=regression)  # type: ignore[arg-type]

    def _evaluate(self, model: Model, last: str) -> Evaluation:
        """Evaluate the stages of a model up to `last`."""
        stages, predictions = model.stages[: model.stages.index(last) + 1], []
        for samples in self.chunks:
            samples = [model.card.target.sample(sample) for sample in samples]
            predicted = model.predict_stages([s.structure for s in samples], [s.prior for s in samples], stages)
            matrices = (dict(zip(stages, each)) for each in zip(*predicted.values(), strict=True))
            predictions += map(Prediction, samples, matrices)
        rotated = [p.sample for p in predictions[: 1 if self.periodic else ROTATED_STRUCTURES]]
        structures, priors = [s.structure for s in rotated], [s.prior for s in rotated]
        # A shift to the Fermi level is invariant, and costs all orbital energies for each rotation.
        zero = "labels" if model.card.energy_zero == "fermi_of_prediction" else model.card.energy_zero
        unshifted = replace(model, card=replace(model.card, energy_zero=zero))
        errors = rotation_errors(unshifted, structures, ROTATIONS, stages=stages, priors=priors)
        return evaluate(predictions, errors)


def last_stage(config: TrainConfig) -> str:
    """Name of the last stage that a configuration trains."""
    if not config.phases.active:
        return STAGES[0]
    return STAGES[1] if config.phases.active == ("stage1",) else STAGES[2]


def _test_names(store: Store, data: DataSet, val: str) -> tuple[list[str], int]:
    """Names of the samples to evaluate, and the number of samples of `val` for validation."""
    if store.splits.get(data.split):
        return store.splits[data.split], max(len(store.splits.get(val, ())), 1)
    names = store.splits.get(val, [])
    if len(names) < 2:
        raise ConfigError(f"{store.path}: expected a split {data.split}, or two samples in {val}")
    return names[len(names) // 2 :], len(names) // 2


def _scaled(encoder: Stage1Settings, factor: float) -> Stage1Settings:
    return replace(encoder, **{name: max(round(factor * getattr(encoder, name)), 1) for name in WIDTHS})


def _n_parameters(model: Model, config: TrainConfig) -> int:
    """Number of network parameters that a prediction depends on."""
    stage, network = last_stage(config), model.network
    if network is None or stage == STAGES[0]:
        return 0
    return sum(p.numel() for p in (network.stage1 if stage == STAGES[1] else network).parameters())


def _settings(config: TrainConfig, names: Sequence[str]) -> dict[str, Any]:
    """Settings that a finished run must share with the requested one."""
    content = json.loads(config.model_dump_json(exclude={"out", "data", "regression_cache", "overwrite"}))
    return {**content, "evaluated": list(names)}


def _finished(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    different = [key for key in settings if content["settings"].get(key) != settings[key]]
    if different:
        raise ConfigError(f"{file.parent}: was made with another {different[0]}: choose another OUT, or remove it")
    return content


def main(
    out: Path,
    store: Annotated[list[str], typer.Option(help="NAME=PATH: a store of the plan.")],
    plan: Annotated[Path, typer.Option(help="The YAML file.")] = PLAN,
    only: Annotated[list[str] | None, typer.Option(help="Run these sets alone.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Run these variants and the reference alone.")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="Time limit of each training, e.g. 30s.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds.")] = None,
) -> None:
    """Make the runs that are missing; write tables and figures."""
    console = Console()
    try:
        _run(read_plan(plan), out, dict(_named(s) for s in store), only, variant, time_limit, seeds, console)
    except HarmoseError as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


def _named(option: str) -> tuple[str, Path]:
    name, equals, path = option.partition("=")
    if not equals:
        raise ConfigError(f"--store: expected NAME=PATH, got {option!r}")
    return name, Path(path)


def _run(
    plan: Plan,
    out: Path,
    stores: Mapping[str, Path],
    only: Sequence[str] | None,
    chosen: Sequence[str] | None,
    limit: str | None,
    seeds: int | None,
    console: Console,
) -> None:
    limit, seeds = limit or plan.time_limit, seeds or plan.seeds
    for option, names, table in (("--only", only, plan.sets), ("--variant", chosen, plan.variants)):
        if unknown := [name for name in names or () if name not in table]:
            raise ConfigError(f"{option}: expected one of {', '.join(table)}, got {unknown[0]}")
    sets = [s for s in plan.sets.values() if s.store in stores and (not only or s.name in only)]
    if not sets:
        raise ConfigError(f"expected --store NAME=PATH of a set: {', '.join({s.store for s in plan.sets.values()})}")
    set_runs = [SetRuns(plan, data, stores[data.store], out, limit) for data in sets]
    wanted = [v for v in plan.variants.values() if not chosen or v.name in chosen or v.name == plan.reference]
    jobs = [
        (set_run, variant, seed)
        for seed in range(seeds)
        for set_run in set_runs
        for variant in wanted
        if variant.sets is None or set_run.data.name in variant.sets
    ]
    for set_run, variant, _ in jobs:
        set_run.config(variant, 0)  # find mistakes of the plan before the first run
    runs: dict[str, list[Run]] = {data.name: [] for data in sets}
    titles = {v.name: v.title for v in wanted}
    for k, (set_run, variant, seed) in enumerate(jobs):
        console.rule(f"{k + 1}/{len(jobs)}  {set_run.data.title}: {variant.title}, seed {seed}", align="left")
        try:
            runs[set_run.data.name].append(set_run.run(variant, seed, console))
        except ConfigError:
            raise
        except HarmoseError as error:  # a run that diverges leaves a gap in the table
            console.print(f"failed: {error}", markup=False, soft_wrap=True)
        named = {set_run.data.name: (set_run.data.title, set_run.periodic) for set_run in set_runs}
        write_report(out, named, titles, plan.reference, limit, runs)
    console.print(f"{out / 'ablation.md'}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
