"""Import DFT matrices of crystals, H(R) and S(R) as integers in one HDF5 file, into a harmose store.

    python examples/results/crystals_h5.py graphene.h5 graphene-store

One group for each structure, all of one element:

    cell (3, 3), pos (N, 3), Z (N,)    angstrom
    pairs (P, 5)                       Rx, Ry, Rz, i, j: the block < atom i in the home cell | H | atom j in cell R >; of
                                       (R, i, j) and (-R, j, i) one is stored; all within `pair_cutoff_A`
    H, S (P, n, n)                     whole numbers; times `h_scale` in eV, times `s_scale`
    attributes                         efermi_eV, energy_Ha, split, kmesh

and for the whole file the attributes basis, orbital_order (as "2s 3s 2p(y,z,x) ...": the order inside), pair_cutoff_A, h_scale,
s_scale. The structure is periodic in the directions in which a block leaves the home cell.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from rich.progress import track

from harmose.core.basis import LETTERS, BasisSet, Shell
from harmose.core.blocks import BlockMatrix
from harmose.core.sample import Sample
from harmose.data.store import new_store
from harmose.errors import FormatError, HarmoseError
from harmose.io.assembly import Rules, from_blocks
from harmose.units import HARTREE

ATTRIBUTES = ("basis", "orbital_order", "pair_cutoff_A", "h_scale", "s_scale")
DATASETS = ("cell", "pos", "Z", "pairs", "H", "S")
INSIDE = {"s": "", "p": "y,z,x", "d": "xy,yz,z2,xz,x2-y2"}
"""m = -l..l by their names; other orders are refused."""

VALENCE = {1: 1, 5: 3, 6: 4, 7: 5, 8: 6, 14: 4, 15: 5, 16: 6}
"""Valence electrons of an atom with a Goedecker-Teter-Hutter pseudopotential."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Import a file of crystals' DFT matrices into a harmose store.")
    parser.add_argument("file", type=Path, help="the .h5 file")
    parser.add_argument("store", type=Path, help="the new store")
    parser.add_argument("--functional", default="pbe", help="what the labels were made with  [default: pbe]")
    parser.add_argument("--code", default="cp2k", help="what they were made by  [default: cp2k]")
    options = parser.parse_args(arguments)
    try:
        count = convert(options.file, options.store, {"code": options.code, "functional": options.functional})
    except (HarmoseError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{options.store}: {count} samples")
    return 0


def convert(path: Path, store: Path, settings: dict[str, Any]) -> int:
    """Write a store with every structure of the file, or raise and write nothing. Returns their number."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with h5py.File(path) as file:
            names, basis = list(file), basis_set(file)
            z = basis.elements[0]
            valence = {chemical_symbols[z]: VALENCE[z]} if z in VALENCE else {}
            described = {**settings, "basis": basis.name}
            with new_store(store, basis, metadata={**described, "valence": valence, "source": path.name}) as target:
                for sample in track(samples(file, names, basis, described), "Importing", len(names)):
                    target.append(sample)
                target.set_splits(splits(file, names))
    except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise FormatError(
            f"{path}: expected an HDF5 file of crystals' matrices, got something else ({error})"
        ) from None
    return len(names)


def basis_set(file: h5py.File) -> BasisSet:
    """The shells of the file's only element; its radius is half the cutoff of pairs."""
    missing = [name for name in ATTRIBUTES if name not in file.attrs]
    if missing:
        raise FormatError(
            f"{file.filename}: expected the attributes {', '.join(ATTRIBUTES)}, lacking {', '.join(missing)}"
        )
    elements = sorted({int(z) for group in file.values() for z in np.unique(group["Z"][()])})
    if len(elements) != 1:
        raise FormatError(f"{file.filename}: expected structures of one element, got {len(elements)} elements")
    shells = tuple(shell(word) for word in str(file.attrs["orbital_order"]).split())
    return BasisSet(
        str(file.attrs["basis"]), {elements[0]: shells}, {elements[0]: float(file.attrs["pair_cutoff_A"]) / 2}
    )


def shell(word: str) -> Shell:
    """`2s`, `3p(y,z,x)`, ... with the orbitals in the order inside."""
    found = re.fullmatch(rf"(\d+)([{LETTERS}])(?:\((.*)\))?", word)
    if found is None or (found[3] or "") != INSIDE.get(found[2]):
        raise FormatError(f"expected shells such as 2s, 2p(y,z,x), 3d(xy,yz,z2,xz,x2-y2), got {word!r}")
    return Shell(int(found[1]), LETTERS.index(found[2]))


def samples(file: h5py.File, names: list[str], basis: BasisSet, described: dict) -> Iterator[Sample]:
    for name in names:
        group = file[name]
        missing = [key for key in DATASETS if key not in group]
        if missing:
            raise FormatError(
                f"{file.filename}: expected {', '.join(DATASETS)} in {name}, lacking {', '.join(missing)}"
            )
        atoms = structure(group)
        n_valence = [VALENCE.get(z) for z in atoms.numbers.tolist()]
        provenance = {"kmesh": group.attrs["kmesh"].tolist()} if "kmesh" in group.attrs else {}
        yield Sample(
            name=name,
            structure=atoms,
            basis=basis,
            hamiltonian=operator(group, "H", float(file.attrs["h_scale"]), atoms, basis),
            overlap=operator(group, "S", float(file.attrs["s_scale"]), atoms, basis),
            n_electrons=None if None in n_valence else float(sum(n_valence)),  # type: ignore[arg-type]
            fermi_level=float(group.attrs["efermi_eV"]) if "efermi_eV" in group.attrs else None,
            energy=float(group.attrs["energy_Ha"]) * HARTREE if "energy_Ha" in group.attrs else None,
            provenance={**described, "converged": True, **provenance},
        )


def structure(group: h5py.Group) -> Atoms:
    cell, positions, numbers, pairs = (group[key][()] for key in ("cell", "pos", "Z", "pairs"))
    if cell.shape != (3, 3) or positions.shape != (len(numbers), 3) or pairs.ndim != 2 or pairs.shape[1] != 5:
        shapes = f"{cell.shape}, {positions.shape} and {pairs.shape}"
        raise FormatError(
            f"{group.file.filename}{group.name}: expected cell (3, 3), pos (N, 3) and pairs (P, 5), got {shapes}"
        )
    return Atoms(numbers, positions, cell=cell, pbc=pairs[:, :3].any(axis=0))


def operator(group: h5py.Group, key: str, scale: float, atoms: Atoms, basis: BasisSet) -> BlockMatrix:
    """H in eV or S; `MatrixError` for blocks that are missing, doubled or out of reach, or a matrix that is not Hermitian."""
    blocks, pairs = group[key][()], group["pairs"][()].astype(np.int64)
    n = basis.n_orbitals(basis.elements[0])
    if blocks.shape != (len(pairs), n, n):
        raise FormatError(
            f"{group.file.filename}{group.name}/{key}: expected shape {(len(pairs), n, n)}, got {blocks.shape}"
        )
    rules = Rules(f"{group.file.filename}{group.name}/{key}", tolerance=0.0, one_triangle=True, complete=True)
    return from_blocks(atoms, basis, pairs[:, [3, 4, 0, 1, 2]], blocks.ravel() * scale, rules)


def splits(file: h5py.File, names: list[str]) -> dict[str, list[str]]:
    """The file's splits; without any, all structures are the split "test"."""
    found: dict[str, list[str]] = {}
    for name in names:
        if "split" in file[name].attrs:
            found.setdefault(str(file[name].attrs["split"]), []).append(name)
    return found or {"test": names}


if __name__ == "__main__":
    sys.exit(main())
