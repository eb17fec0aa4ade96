"""Import molecular DFT matrices from one .npz file into a harmose store.

    python examples/results/molecules_npz.py water.npz water-store

The file holds PySCF results (Hartree, angstrom, PySCF's orbital order) of many molecules, concatenated:

    z, pos                  atoms of sample i at atom_ptr[i]:atom_ptr[i+1]
    nao                     orbitals of sample i
    F, S, F0                upper triangles row by row at tri_ptr[i]:tri_ptr[i+1]; F0 (the prior) may be missing
    mo_energy               at mo_ptr[i]:mo_ptr[i+1]; may be missing
    n_electrons, energy, cycles, name, kind, group    one value each; may be missing
    train, val, test        indices of the splits; without any, all samples are the split "test"
    xc, basis               functional and basis set; may be missing
"""

import argparse
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from rich.progress import track

from harmose.core.basis import BasisSet
from harmose.core.sample import Sample
from harmose.data.store import new_store
from harmose.errors import FormatError, HarmoseError
from harmose.io.assembly import zeros
from harmose.io.pyscf.pyscf import PySCFSettings, basis_set, to_blocks
from harmose.units import HARTREE

REQUIRED = ("atom_ptr", "z", "pos", "nao", "tri_ptr", "F", "S")
POINTERS = {"z": "atom_ptr", "F": "tri_ptr", "S": "tri_ptr", "F0": "tri_ptr", "mo_energy": "mo_ptr"}
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error)
SPLITS = ("train", "val", "test")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Import a file of molecular DFT matrices into a harmose store.")
    parser.add_argument("file", type=Path, help="the .npz file")
    parser.add_argument("store", type=Path, help="the new store")
    parser.add_argument("--functional", help="default: as the file says, else b3lyp for organics and pbe for others")
    options = parser.parse_args(arguments)
    try:
        count = convert(options.file, options.store, options.functional)
    except (HarmoseError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.store}: {count} samples")
    return 0


def convert(file: Path, store: Path, functional: str | None = None) -> int:
    """Write a store with every sample of `file`, or raise and write nothing. Returns the number of samples."""
    data = load(file)
    settings = PySCFSettings(functional or written_functional(data, file), str(data.get("basis", "def2-svp")))
    basis = basis_set(settings.basis, np.unique(data["z"]).tolist())
    names = unique_names(data)
    described = {k: settings.to_dict()[k] for k in ("code", "functional", "basis", "grid_level", "small_rho_cutoff")}
    with new_store(store, basis, metadata={**described, "source": file.name}) as target:
        for sample in track(samples(data, names, basis, described, file), "Importing", len(names)):
            target.append(sample)
        target.set_splits(splits(data, names, file))
    return len(names)


def load(file: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, with pointers that fit; `FormatError` for anything else."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise FormatError(f"{file}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, TypeError, MemoryError, RuntimeError, *BROKEN_ARCHIVE) as error:
        raise FormatError(f"{file}: expected a whole .npz file, got something else ({error})") from None
    missing = [name for name in REQUIRED if name not in data]
    if missing:
        raise FormatError(f"{file}: expected the arrays {', '.join(REQUIRED)}, lacking {', '.join(missing)}")
    check_shapes(data, file)
    return data


def check_shapes(data: dict[str, np.ndarray], file: Path) -> None:
    """`FormatError` unless every array has the type and length that the pointers give it."""
    n = data["nao"].size
    whole = ("atom_ptr", "z", "nao", "tri_ptr", "mo_ptr", *SPLITS)
    for name in set(data) - {"name", "kind", "group", "xc", "basis"}:
        kind = "iu" if name in whole else "iuf"
        if data[name].dtype.kind not in kind or data[name].ndim != (2 if name == "pos" else 1):
            raise FormatError(f"{file}: expected numbers in {name}, got {data[name].dtype} {data[name].shape}")
    if data["pos"].shape != (len(data["z"]), 3):
        raise FormatError(f"{file}: expected pos of shape {(len(data['z']), 3)}, got {data['pos'].shape}")
    orbitals = data["nao"].astype(np.int64)
    if not np.array_equal(np.diff(data["tri_ptr"]), orbitals * (orbitals + 1) // 2):
        raise FormatError(f"{file}: expected tri_ptr to count nao (nao + 1) / 2 elements for each sample")
    for name, pointer in POINTERS.items():
        ends, rows = data.get(pointer, np.empty(0)), len(data.get(name, ()))
        if name in data and (len(ends) != n + 1 or ends[0] != 0 or ends[-1] != rows or (np.diff(ends) < 0).any()):
            raise FormatError(f"{file}: expected {pointer} to divide {rows} rows of {name} among {n} samples")
    for name in ("n_electrons", "energy", "cycles", "name", "kind", "group"):
        if name in data and data[name].shape != (n,):
            raise FormatError(f"{file}: expected {n} values of {name}, got {data[name].shape}")


def written_functional(data: dict[str, np.ndarray], file: Path) -> str:
    return str(data["xc"]) if "xc" in data else "b3lyp" if "organics" in file.stem else "pbe"


def unique_names(data: dict[str, np.ndarray]) -> list[str]:
    """The file's names, with the sample's index behind those that occur more than once."""
    n = len(data["nao"])
    names = data["name"].tolist() if "name" in data else ["sample"] * n
    count = Counter(names)
    return [str(name) if count[name] == 1 else f"{name}-{i}" for i, name in enumerate(names)]


def splits(data: dict[str, np.ndarray], names: list[str], file: Path) -> dict[str, list[str]]:
    found = {split: data[split].ravel().tolist() for split in SPLITS if split in data}
    for split, indices in found.items():
        if not all(isinstance(k, int) and 0 <= k < len(names) for k in indices):
            raise FormatError(f"{file}: expected {split} to hold indices of {len(names)} samples")
    return {split: [names[k] for k in indices] for split, indices in found.items()} or {"test": names}


def samples(
    data: dict[str, np.ndarray], names: list[str], basis: BasisSet, described: dict, file: Path
) -> Iterator[Sample]:
    for i, name in enumerate(names):
        where = slice(*data["atom_ptr"][i : i + 2])
        atoms = Atoms(data["z"][where], data["pos"][where])
        blocks = zeros(atoms, basis)
        if blocks.n_orbitals != data["nao"][i]:
            raise FormatError(f"{file}: expected {blocks.n_orbitals} orbitals for {name}, got {data['nao'][i]}")
        one = {k: data[k][i].item() for k in ("n_electrons", "energy", "cycles", "kind", "group") if k in data}
        energies = data["mo_energy"][slice(*data["mo_ptr"][i : i + 2])] * HARTREE if "mo_energy" in data else None
        yield Sample(
            name=name,
            structure=atoms,
            basis=basis,
            hamiltonian=to_blocks(triangle(data, "F", i), blocks, name=f"F of {name}"),
            overlap=to_blocks(triangle(data, "S", i), blocks, energy=False, name=f"S of {name}"),
            prior=to_blocks(triangle(data, "F0", i), blocks, name=f"F0 of {name}") if "F0" in data else None,
            n_electrons=float(one.pop("n_electrons", atoms.numbers.sum())),
            energy=one.pop("energy") * HARTREE if "energy" in one else None,
            orbital_energies=energies,
            provenance={**described, "converged": True, **one},
        )


def triangle(data: dict[str, np.ndarray], name: str, i: int) -> np.ndarray:
    """The symmetric matrix (nao, nao) of sample i from its upper triangle."""
    n = int(data["nao"][i])
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n)] = data[name][slice(*data["tri_ptr"][i : i + 2])]
    return matrix + np.triu(matrix, 1).T


if __name__ == "__main__":
    sys.exit(main())
