"""Sources: samples by name, read one at a time. A store, a database and a folder of calculations are all sources."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from harmose.core.basis import BasisSet, Shell
from harmose.core.sample import Sample
from harmose.core.species import atomic_numbers_of, symbol_of
from harmose.errors import BasisError, FormatError, HarmoseError

ReadRun = Callable[[Path, BasisSet | None], Sample]
"""Reads one calculation from its folder or file, in the given basis set or, for None, in its own."""


class Source(Protocol):
    """Samples by name. `names()` reads no sample; `source[name]` reads one and raises if it is damaged.

    `metadata` holds the settings that all samples share, in the form that a store keeps. It may be empty.
    """

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def names(self) -> list[str]: ...

    def __getitem__(self, name: str) -> Sample: ...


class SingleSample:
    """A source of one sample."""

    metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, sample: Sample):
        self._sample = sample

    def names(self) -> list[str]:
        return [self._sample.name]

    def __getitem__(self, name: str) -> Sample:
        return self._sample


class Runs:
    """Calculations by name, all read in one basis set: `basis`, or the `common_basis` of their own ones.

    To find the common one, every calculation is read once before the first sample is returned. Call `survey` to do this
    with a progress bar.

    Attributes:
        left_out: why other folders of the same place are not among the samples, by their names: a run without matrices, a
            second link to the same folder.
    """

    metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        folders: Mapping[str, Path],
        read: ReadRun,
        basis: BasisSet | None = None,
        left_out: Mapping[str, str] = MappingProxyType({}),
    ):
        self.left_out = dict(left_out)
        self._folders = dict(folders)
        self._read = read
        self._basis = basis
        self._errors: dict[str, HarmoseError] = {}

    def names(self) -> list[str]:
        return list(self._folders)

    def path(self, name: str) -> Path:
        """Return the folder or file of a calculation."""
        return self._folders[name]

    def survey(self) -> Iterator[str]:
        """Read the basis set of each calculation and yield its name. A single calculation is not read."""
        if self._basis is not None or len(self._folders) < 2:
            return
        basis = None
        for name, folder in self._folders.items():
            # A calculation that cannot be read, or not in one basis set with the others, must not stop these;
            # `source[name]` raises its error.
            try:
                own = self._read(folder, None).basis
            except HarmoseError as error:
                self._errors[name] = error
            else:
                with suppress(HarmoseError):
                    basis = own if basis is None else common_basis(basis, own)
            yield name
        self._basis = basis

    def __getitem__(self, name: str) -> Sample:
        for _ in self.survey():
            pass
        if name not in self._folders:
            raise FormatError(f"no calculation named {name!r}; there are {', '.join(self.names()[:5])}")
        try:
            return replace(self._read(self._folders[name], self._basis), name=name)
        except HarmoseError as error:  # what is wrong with it, not how it differs from the others
            raise self._errors.get(name, error) from None


def common_basis(a: BasisSet, b: BasisSet) -> BasisSet:
    """Return the elements of both, each with the larger of its two radii; `BasisError` if their shells differ.

    Where one of them has several sets of orbitals of an element, it decides their numbers, and the other may have some of them.
    """
    if a.name != b.name:
        raise BasisError(f"expected calculations in one basis set, got {a.name} and {b.name}")
    shells: dict[int, tuple[Shell, ...]] = {}
    radii: dict[int, float] = {}
    for element in sorted({int(z) for z in atomic_numbers_of(np.array([*a.elements, *b.elements], dtype=np.int64))}):
        first, second = sorted((a, b), key=lambda one: -len(one.sets_of(element)))
        shells |= {z: first.shells[z] for z in first.sets_of(element)}
        radii |= {z: first.radii[z] for z in first.sets_of(element)}
        for own in second.sets_of(element):
            z = next((z for z in first.sets_of(element) if first.shells[z] == second.shells[own]), None)
            if z is None:
                raise BasisError(f"basis {a.name}: two different sets of shells for {symbol_of(element)}")
            radii[z] = max(radii[z], second.radii[own])
    return BasisSet(a.name, shells, radii)
