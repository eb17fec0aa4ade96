"""Sources: what holds one sample or many, each under a name, and gives them one by one.

A store, a database of a data set, or a folder of run folders looks the same to whoever reads it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.errors import BasisError, FormatError, HarmoseError

ReadRun = Callable[[Path, BasisSet | None], Sample]
"""Reads the folder (or file) of one calculation; with a basis set that other calculations share, or with its own."""


class Source(Protocol):
    """Samples by name; `names()` reads no sample, and `source[name]` reads one and raises what is wrong with it.

    `metadata` are the settings of all of them where they are known, as a store keeps them.
    """

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def names(self) -> list[str]: ...

    def __getitem__(self, name: str) -> Sample: ...


class Runs:
    """The calculations in `folders`, by name, all in one basis set: `basis`, or what `common_basis` makes of their own.

    To find the common one, every calculation is read once before the first sample; `survey` shows how that goes.
    """

    def __init__(self, folders: Mapping[str, Path], read: ReadRun, basis: BasisSet | None = None):
        self._folders = dict(folders)
        self._read = read
        self._basis = basis

    @property
    def metadata(self) -> Mapping[str, Any]:
        return {}

    def names(self) -> list[str]:
        return list(self._folders)

    def survey(self) -> Iterator[str]:
        """Read each calculation for its basis set; yields the names. Nothing to do for one, or when the basis is given."""
        if self._basis is not None or len(self._folders) < 2:
            return
        basis = None
        for name, folder in self._folders.items():
            # What is wrong with a calculation, `source[name]` will say; here it must not stop the others.
            with suppress(HarmoseError):
                own = self._read(folder, None).basis
                basis = own if basis is None else common_basis(basis, own)
            yield name
        self._basis = basis

    def __getitem__(self, name: str) -> Sample:
        for _ in self.survey():
            pass
        if name not in self._folders:
            raise FormatError(f"no calculation named {name!r}; there are {', '.join(self.names()[:5])}")
        return replace(self._read(self._folders[name], self._basis), name=name)


def common_basis(a: BasisSet, b: BasisSet) -> BasisSet:
    """Elements of both, each with the larger of its two radii; `BasisError` where the two have different shells."""
    if a.name != b.name:
        raise BasisError(f"expected calculations in one basis set, got {a.name} and {b.name}")
    radii = {z: max(a.radii.get(z, 0.0), b.radii.get(z, 0.0)) for z in {*a.elements, *b.elements}}
    grown = [BasisSet(x.name, x.shells, {z: radii[z] for z in x.elements}) for x in (a, b)]
    return grown[0].merged(grown[1])
