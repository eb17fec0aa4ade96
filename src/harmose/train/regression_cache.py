"""The closed-form part of stage 1 in a training: fitted once, and kept for other trainings on the same samples.

A fit depends on nothing but the training samples, what is learned of them and the code that fits, so that a folder of fits
(`closed_form: FOLDER`) needs no list: each lies there under the digest of these. Networks, seeds and schedules do not enter.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path

from harmose.data.store import Store
from harmose.errors import ConfigError
from harmose.representation.concatenation import SampleTargets, TargetSettings, block_irreps
from harmose.train.dataset import fit, load_targets
from harmose.train.state import REGRESSION, read_regression, write_regression

Show = Callable[[str, float, str], None]
"""The live line: what is being done, how much of it is over, more about it."""

SOURCES = ("core", "kernel_regression", "physics/charges.py", "representation", "so3")
"""What decides the numbers of a fit to given samples."""


def fit_or_load_regression(
    store: Store,
    names: Sequence[str],
    target: TargetSettings,
    many_body: bool,
    references: int | None,
    out: Path,
    kept: Path | None,
    show: Show,
) -> tuple[str, SampleTargets | None]:
    """Leave the fit to the samples `names` in the folder of a training; where it came from and how long it took, as text.

    With it the samples as they were measured for the fit, if there was one. It is taken from the folder `kept` where that
    has it, else fitted and put there. Raises `ConfigError` when `kept` is no folder and cannot become one.
    """
    begin = time.monotonic()
    file = (
        None if kept is None else _folder(kept) / f"{digest(store, names, target, many_body, references)}.safetensors"
    )
    if file is not None and file.exists():
        read_regression(file, block_irreps(store.basis, store.spin))  # a damaged one is named before it is copied
        shutil.copyfile(file, out / REGRESSION)
        return f"closed-form part taken from {file}", None
    sample_targets = _measured(store, names, target, show)
    space = block_irreps(store.basis, store.spin)
    fitted = fit(space, sample_targets, many_body, lambda fraction: show("closed form", fraction, ""), references)
    write_regression(out / REGRESSION, *fitted)
    text = f"closed-form part fitted to {len(names)} samples in {time.monotonic() - begin:.1f} s"
    if file is None:
        return text, sample_targets
    write_regression(file, *fitted)
    return f"{text}, kept in {file}", sample_targets


def digest(store: Store, names: Sequence[str], target: TargetSettings, many_body: bool, references: int | None) -> str:
    """Of the samples' records in their order, the basis set, what is learned, and the sources of the fit."""
    # Of what is read besides only the electrons of H0 enter a fit.
    learned = asdict(replace(target, operators=())) | {"electrons": target.reads_charges}
    about = [store.basis.fingerprint, store.spin.value, learned, many_body, references, len(names)]
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in names:
        found.update(hashlib.sha256(store.record(name)).digest())
    package = Path(str(resources.files("harmose")))
    for source in SOURCES:
        for path in sorted((package / source).glob("*.py")) if (package / source).is_dir() else [package / source]:
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:32]


def _folder(kept: Path) -> Path:
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"regression_cache: expected a folder for fits, {kept} cannot be one ({error.strerror})"
        ) from None
    return kept


def _measured(store: Store, names: Sequence[str], target: TargetSettings, show: Show) -> SampleTargets:
    done = 0

    def read(n: int) -> None:
        nonlocal done
        done += n
        show("preparing", done / len(names), f"{done} of {len(names)} samples")

    return load_targets(store, names, target, read)
