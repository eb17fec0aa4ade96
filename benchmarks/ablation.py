"""The ablation table: trainings of equal processor time, one for each data set, variant and seed, evaluated alike.

    python benchmarks/ablation.py OUT --store water=STORE --store ethanol=STORE [--only SET] [--variant NAME] [--time 30s]

`ablation.yaml` beside this file names sets and variants; its comments say what each key means. Every run lies in
OUT/runs and is left alone when it is there already, so that the same command goes on after a stop. After each run OUT holds
the tables of all runs so far (ablation.md) and a figure for each set. The closed-form part of stage 1 is fitted once for each
set and kept in OUT/closed-form; it is the same for all seeds and takes nothing of a training's time.
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

from harmose.core.sample import Sample
from harmose.data.store import Store
from harmose.errors import ConfigError, HarmoseError, OutsideDomain
from harmose.evaluate.evaluation import Evaluation
from harmose.evaluate.metrics import Prediction, evaluate, rotation_error
from harmose.inference.checkpoint import Model, load
from harmose.kernel_regression.model import KernelRegression
from harmose.nn.stage1.encoder import Stage1Settings
from harmose.nn.two_stage import TwoStage
from harmose.representation.block_irreps import Coefficients, OrientedPairs
from harmose.representation.charge_features import ChargeFeatures
from harmose.representation.concatenation import block_irreps
from harmose.train.config import TrainConfig, load_config
from harmose.train.dataset import chunks
from harmose.train.engine import train

PLAN = Path(__file__).with_suffix(".yaml")
ROTATED, ROTATIONS = 2, 2
"""Structures, and random rotations of each, for the rotation error."""
WIDTHS = ("channels", "pseudo_channels", "scalars", "so2_channels", "pseudoscalars", "hidden")
"""Of stage 1; `blocks` and `radial` are no widths."""


@dataclass(frozen=True)
class Variant:
    """A line of the table: `change` overrides the set's configuration; stage 1 gets as many parameters as all of `widen`."""

    name: str
    title: str
    change: Sequence[str] = ()
    widen: str | None = None
    sets: Sequence[str] | None = None
    """Only these."""


@dataclass(frozen=True)
class DataSet:
    """A table: the store by the name that `--store` gives it, and a configuration with changes."""

    name: str
    title: str
    store: str
    config: str
    change: Sequence[str] = ()
    split: str = "test"
    """What is evaluated; where the store has none, `val` is halved: the first half chooses weights, the second is this."""


@dataclass(frozen=True)
class Plan:
    """What `ablation.yaml` holds."""

    sets: Mapping[str, DataSet]
    variants: Mapping[str, Variant]
    reference: str
    """The variant that reductions refer to, and that says which samples and blocks are challenging."""
    time_limit: str
    seeds: int
    change: Sequence[str] = ()
    """For all trainings."""
    folder: Path = field(default_factory=Path)


def read_plan(path: Path) -> Plan:
    """`ConfigError` for a plan that is not one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        sets = {name: DataSet(name, **about) for name, about in content.pop("sets").items()}
        variants = {name: Variant(name, **about) for name, about in content.pop("variants").items()}
        plan = Plan(sets, variants, folder=path.parent, **content)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: expected a plan of ablations ({error})") from None
    named = {plan.reference, *(v.widen for v in variants.values() if v.widen)}
    if missing := sorted(named - set(variants)):
        raise ConfigError(f"{path}: expected a variant {missing[0]}, which is referred to")
    return plan


class Remembered:
    """A closed-form part that works out each graph once: runs on one set share it, and ask for the same graphs."""

    def __init__(self, regression: KernelRegression, memory: dict[bytes, Any]):
        self.regression, self.memory = regression, memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.regression, name)

    def values(self, oriented: OrientedPairs, electrons: ChargeFeatures | None = None) -> Coefficients:
        """What the electrons of H0 do follows from the structure."""
        return self._once("values", oriented, electrons)

    def scales(self, oriented: OrientedPairs) -> Coefficients:
        return self._once("scales", oriented)

    def ood_score(self, oriented: OrientedPairs) -> Any:
        return self._once("novelty", oriented)

    def _once(self, what: str, oriented: OrientedPairs, *more: Any) -> Any:
        seen = hashlib.sha256(what.encode() + oriented.species.tobytes() + oriented.kind.tobytes())
        key = seen.digest() + hashlib.sha256(oriented.vectors.tobytes()).digest()
        if key not in self.memory:
            self.memory[key] = getattr(self.regression, what)(oriented, *more)
        return self.memory[key]


class Bench:
    """One data set: its store, the samples to evaluate on, and what its runs share."""

    def __init__(self, plan: Plan, data: DataSet, store: Path, out: Path, limit: str):
        self.plan, self.data, self.out, self.limit, self.path = plan, data, out, limit, store
        self.memory: dict[str, dict[bytes, Any]] = {}
        self.widths: dict[str, list[str]] = {}
        with Store.open(store) as opened:
            self.space = block_irreps(opened.basis, opened.spin)
            self.names, self.n_val = _unseen(opened, data, self._load("any", 0).val_split)
            self.chunks = list(chunks(opened, self.names))
        self.periodic = bool(self.chunks[0][0].structure.pbc.any())

    def config(self, variant: Variant, seed: int) -> TrainConfig:
        """How a variant is trained."""
        changes = [*variant.change]
        if variant.widen:
            if variant.name not in self.widths:
                self.widths[variant.name] = self._widths(self.plan.variants[variant.widen], variant)
            changes += self.widths[variant.name]
        return self._load(variant.name, seed, changes)

    def _load(self, name: str, seed: int, changes: Sequence[str] = ()) -> TrainConfig:
        own = [f"data={self.path}", f"out={self.out / 'runs' / self.data.name / f'{name}-{seed}'}", f"seed={seed}"]
        own += [f"regression_cache={self.out / 'closed-form'}", f"time_limit={self.limit}"]
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
        """Train and evaluate, unless it has been done."""
        config = self.config(variant, seed)
        file, settings = config.out / "evaluation.json", _settings(config, self.names)
        if (done := _finished(file, settings)) is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OutsideDomain)
                train(config, console)
                begin = time.monotonic()
                model = load(config.out)
                result = self._evaluate(self._remembering(model), has_stage2(config))
            console.print(f"evaluated in {time.monotonic() - begin:.1f} s", highlight=False)
            done = {"settings": settings, "n_parameters": _in_use(model, config), "evaluation": result.to_dict()}
            file.write_text(json.dumps(done))
        return Run(variant.name, seed, Evaluation.from_dict(done["evaluation"]), int(done["n_parameters"]))

    def _remembering(self, model: Model) -> Model:
        """The same model, with the closed form's share of a prediction remembered from other runs."""
        card = model.card
        key = json.dumps([card.training_set, card.needs_prior, card.energy_zero, sorted(model.regression.pair_scale)])
        seen = hashlib.sha256(key.encode())
        for scale in (*model.regression.pair_scale.values(), *model.regression.onsite_scale.values()):
            seen.update(scale.tobytes())
        memory = self.memory.setdefault(seen.hexdigest(), {})
        return replace(model, regression=Remembered(model.regression, memory))  # type: ignore[arg-type]

    def _evaluate(self, model: Model, two_stages: bool) -> Evaluation:
        stage, predictions = "full" if two_stages else "stage1", []
        for samples in self.chunks:
            samples = [model.card.target.sample(sample) for sample in samples]
            found = model.predict_many([s.structure for s in samples], [s.prior for s in samples], stage)
            predictions += [Prediction(sample, h, h) for sample, h in zip(samples, found, strict=True)]
        turned: list[Sample] = [p.sample for p in predictions[: 1 if self.periodic else ROTATED]]
        structures, priors = [s.structure for s in turned], [s.prior for s in turned]
        # A shift to the Fermi level turns with nothing, and costs a spectrum for each rotation.
        card = replace(
            model.card,
            energy_zero="labels" if model.card.energy_zero == "fermi_of_prediction" else model.card.energy_zero,
        )
        error = rotation_error(replace(model, card=card), structures, ROTATIONS, stage=stage, priors=priors)
        return evaluate(predictions, {"stage1": error, "full": error})


def has_stage2(config: TrainConfig) -> bool:
    return config.phases.active != ("stage1",)


def _unseen(store: Store, data: DataSet, val: str) -> tuple[list[str], int]:
    """The samples to evaluate on, and how many of `val` choose weights."""
    if store.splits.get(data.split):
        return store.splits[data.split], max(len(store.splits.get(val, ())), 1)
    names = store.splits.get(val, [])
    if len(names) < 2:
        raise ConfigError(f"{store.path}: expected a split {data.split}, or two samples in {val}")
    return names[len(names) // 2 :], len(names) // 2


def _scaled(encoder: Stage1Settings, factor: float) -> Stage1Settings:
    return replace(encoder, **{name: max(round(factor * getattr(encoder, name)), 1) for name in WIDTHS})


def _in_use(model: Model, config: TrainConfig) -> int:
    """Parameters that a prediction depends on."""
    network = model.network
    return sum(p.numel() for p in (network.parameters() if has_stage2(config) else network.stage1.parameters()))


def _settings(config: TrainConfig, names: Sequence[str]) -> dict[str, Any]:
    """What a finished run must have in common with the one that is asked for."""
    content = json.loads(config.model_dump_json(exclude={"out", "data", "regression_cache", "overwrite"}))
    return {**content, "evaluated": list(names)}


def _finished(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    different = [key for key in settings if found["settings"].get(key) != settings[key]]
    if different:
        raise ConfigError(f"{file.parent}: was made with another {different[0]}: choose another OUT, or remove it")
    return found


def main(
    out: Path,
    store: Annotated[list[str], typer.Option(help="NAME=PATH: a store of the plan.")],
    plan: Annotated[Path, typer.Option(help="The YAML file.")] = PLAN,
    only: Annotated[list[str] | None, typer.Option(help="Only these sets.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only these variants, and the reference.")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="Of each training, e.g. 30s.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many.")] = None,
) -> None:
    """Run what is missing; write tables and figures."""
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
    for what, names, known in (("--only", only, plan.sets), ("--variant", chosen, plan.variants)):
        if unknown := [name for name in names or () if name not in known]:
            raise ConfigError(f"{what}: expected one of {', '.join(known)}, got {unknown[0]}")
    sets = [s for s in plan.sets.values() if s.store in stores and (not only or s.name in only)]
    if not sets:
        raise ConfigError(f"expected --store NAME=PATH of a set: {', '.join({s.store for s in plan.sets.values()})}")
    benches = [Bench(plan, data, stores[data.store], out, limit) for data in sets]
    wanted = [v for v in plan.variants.values() if not chosen or v.name in chosen or v.name == plan.reference]
    jobs = [
        (bench, variant, seed)
        for seed in range(seeds)
        for bench in benches
        for variant in wanted
        if variant.sets is None or bench.data.name in variant.sets
    ]
    for bench, variant, _ in jobs:
        bench.config(variant, 0)  # mistakes of the plan now, not in the night
    runs: dict[str, list[Run]] = {data.name: [] for data in sets}
    titles = {v.name: v.title for v in wanted}
    for k, (bench, variant, seed) in enumerate(jobs):
        console.rule(f"{k + 1}/{len(jobs)}  {bench.data.title}: {variant.title}, seed {seed}", align="left")
        try:
            runs[bench.data.name].append(bench.run(variant, seed, console))
        except ConfigError:
            raise
        except HarmoseError as error:  # one that diverges leaves a gap in the table
            console.print(f"failed: {error}", markup=False, soft_wrap=True)
        named = {bench.data.name: (bench.data.title, bench.periodic) for bench in benches}
        write_report(out, named, titles, plan.reference, limit, runs)
    console.print(f"{out / 'ablation.md'}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
