"""Cache of regression fits: each is made once, and shared by trainings on the same samples.

A fit depends only on the training samples, on what is learned of them and on the code that fits. A cache folder
(`regression_cache: FOLDER`) holds each fit under the digest of these; networks, seeds and schedules do not enter.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from harmose.data.store import Store
from harmose.errors import ConfigError
from harmose.inference.card import RegressionKind
from harmose.representation.block_irreps import BlockIrreps
from harmose.representation.concatenation import SampleTargets, TargetSettings
from harmose.train.fit import FILE, fit_to_samples, load_targets, read_fit, write_fit
from harmose.train.prepared_sets import cache_folder
from harmose.train.reversals import training_space
from harmose.train.start import Start, check_kinds, start_fit

Progress = Callable[[str, float, str], None]
"""Called with the name of the work, the fraction that is done, and a text."""

SOURCES = (
    "core",
    "kernel_regression",
    "physics/charges.py",
    "physics/occupations.py",
    "representation",
    "so3",
    "train/fit.py",
    "train/reversals.py",
    "train/start.py",
)
"""Files and folders of the package that decide the numbers of a fit to given samples."""

PREPARING_SOURCES = (
    *SOURCES,
    "train/part_files.py",
    "train/prepared.py",
    "train/sample_set.py",
    "train/stored_samples.py",
)
"""The same for samples that are prepared in parts."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit: kind of regression, largest number of sparse points for each pair type, and the model to start from:
    the digest of its weights, and what becomes of its regression."""

    kind: RegressionKind = "kernel"
    sparse_points: int | None = None
    init: tuple[str, str] | None = None


def fit_or_load(
    store: Store,
    names: Sequence[str],
    target: TargetSettings,
    settings: FitSettings,
    out: Path,
    cache: Path | None,
    progress: Progress,
    start: Start | None = None,
) -> tuple[str, SampleTargets | None]:
    """Write the fit to the samples `names` into the folder `out`; return a line about it, and the targets if it was made.

    The fit is taken from the folder `cache` where it is there, else made and put there. `start`: the model that the training
    starts from. Raises `ConfigError` when `cache` cannot be a folder.
    """
    space, title = fit_space(store, names, target, start), _title(settings, start)
    file = None if cache is None else _folder(cache) / f"{digest(store, names, target, settings)}.safetensors"
    if file is not None and file.exists():
        read_fit(file, space)  # so that a damaged file is named before it is copied
        shutil.copyfile(file, out / FILE)
        return f"{title} taken from {file}", None
    targets = _load_targets(store, names, target, progress, space)

    def advance(done: float) -> None:
        progress(title, done, "")

    if start is None:
        fit = fit_to_samples(targets, settings.kind, settings.sparse_points, advance)
    else:
        fit = start_fit(start, targets, settings.sparse_points, advance)
    write_fit(out / FILE, fit)
    text = f"{title} fitted to {len(names)} samples"
    if file is None:
        return text, targets
    write_fit(file, fit)
    return f"{text}, kept in {file}", targets


def fit_space(store: Store, names: Sequence[str], target: TargetSettings, start: Start | None) -> BlockIrreps:
    """Return the irreps of a fit's blocks: those of the model that the training starts from, or of the training samples."""
    space = training_space(store, names, target)
    if start is None:
        return space
    check_kinds(start, space)
    return start.model.space


def _title(settings: FitSettings, start: Start | None) -> str:
    if start is not None and start.regression != "refit":
        return {"correct": "correction of the regression", "keep": "regression of the model, kept; training domain"}[
            start.regression
        ]
    return {"kernel": "kernel regression", "pairs": "regression of pairs", "none": "normalizer"}[settings.kind]


def digest(
    store: Store,
    names: Sequence[str],
    target: TargetSettings,
    settings: FitSettings,
    sources: Sequence[str] = SOURCES,
) -> str:
    """Return a digest of the samples' records in order, the basis set, the target, the settings and the fit's sources."""
    # Of the operators that are read, only the charges of H0 enter a fit.
    learned = asdict(replace(target, operators=())) | {"charges": target.reads_charges}
    about = [store.basis.fingerprint, store.spin.value, learned, asdict(settings), len(names)]
    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in names:
        total.update(hashlib.sha256(store.record(name)).digest())
    package = Path(str(resources.files("harmose")))
    for source in sources:
        for path in sorted((package / source).rglob("*.py")) if (package / source).is_dir() else [package / source]:
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:32]


def prepared_folder(
    store: Store,
    cache: Path | None,
    names: Sequence[str],
    target: TargetSettings,
    settings: FitSettings,
    memory: int,
) -> Path:
    """Return the folder for samples that are prepared in parts: in `cache`, or in a folder beside the store."""
    folder = cache_folder(store.path) if cache is None else _folder(cache)
    about = [digest(store, names, target, settings, PREPARING_SOURCES), list(target.operators), memory]
    return folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


def _folder(cache: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"regression_cache: expected a folder for fits, {cache} cannot be one ({error.strerror})"
        ) from None
    return cache


def _load_targets(
    store: Store, names: Sequence[str], target: TargetSettings, progress: Progress, space: BlockIrreps
) -> SampleTargets:
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        progress("preparing", done / len(names), f"{done} of {len(names)} samples")

    return load_targets(store, names, target, advance, space)
