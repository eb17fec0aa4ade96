"""The `.npz` file of one sample or prediction, which NumPy reads without pickles.

| array | shape | meaning |
|---|---|---|
| format, version, name, spin | () | text "harmose-npz", 1, the sample's name, spin kind |
| numbers, positions, cell, pbc | (N,), (N, 3), (3, 3), (3,) | the structure, angstrom |
| orbital_set | (N,) | which set of orbitals of its element an atom has, from 0; only where an element has several |
| charge, unpaired | () | total charge, number of unpaired electrons; only where the structure states them |
| moments | (N,) or (N, 3) | initial magnetic moments of the atoms, Bohr magnetons; only where the structure states them |
| basis | () | the basis set as JSON text |
| orbitals | (n, 3) | atom, l and m of each orbital |
| keys | (B, 5) | i, j, Rx, Ry, Rz of each stored block; (j, i, -R) is its adjoint and not stored |
| offsets | (B + 1,) | block b is `values[:, offsets[b]:offsets[b + 1]]`, row-major (n_i, n_j) |
| hamiltonian, overlap, prior | (components, size) | block values, eV (overlap: no unit); H0 and S are optional |
| H, S | (n, n) or (2, n, n) | the same as full matrices; only for molecules without spinors |
| n_electrons, fermi_level, energy | () | optional; eV |
| orbital_energies | (n,) | optional; eV |
| provenance | () | JSON text |
| confidence, ood_scores | (), (N,) | of a prediction with bounds; not read back |
| block_bounds, orbital_bounds | (B,), (n,) | upper bounds of its errors, eV; not read back |
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from harmose.core import species
from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.electrons import stated_charge, stated_moments, stated_unpaired
from harmose.core.files import atomic_path
from harmose.core.sample import Sample
from harmose.errors import FormatError, HarmoseError
from harmose.spin import Spin

FORMAT, VERSION = "harmose-npz", 1
OPERATORS = ("hamiltonian", "overlap", "prior")
NUMBERS = ("n_electrons", "fermi_level", "energy")
COMPRESSED = 10**8
"""Size of H in bytes up to which the file is compressed. Compressing more takes longer than predicting it."""


def write_npz(path: str | Path, sample: Sample, more: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a sample and the arrays `more` to a new file, atomically. `FormatError` if `path` exists."""
    save = np.savez_compressed if sample.hamiltonian.values.nbytes < COMPRESSED else np.savez
    with atomic_path(path, overwrite=False) as hidden, hidden.open("wb") as file:
        save(file, allow_pickle=False, **{**(more or {}), **_arrays(sample)})


def _arrays(sample: Sample) -> dict[str, Any]:
    atoms, h = sample.structure, sample.hamiltonian
    arrays: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": sample.name,
        "spin": sample.spin.value,
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "basis": sample.basis.to_json(),
        "orbitals": _orbitals(h),
        "keys": h.keys,
        "offsets": h.offsets,
        "provenance": json.dumps(dict(sample.provenance), default=str),
    }
    molecule = not atoms.pbc.any() and sample.spin is not Spin.SPINOR
    for name, letter in zip(OPERATORS, ("H", "S", None), strict=True):
        operator: BlockMatrix | None = getattr(sample, name)
        if operator is not None:
            arrays[name] = operator.values
            if molecule and letter:
                arrays[letter] = operator.dense()
    optional = {name: getattr(sample, name) for name in (*NUMBERS, "orbital_energies")}
    optional |= {
        species.ARRAY: atoms.arrays.get(species.ARRAY),
        "charge": stated_charge(atoms),
        "unpaired": stated_unpaired(atoms),
    }
    optional |= {"moments": stated_moments(atoms)}
    return arrays | {name: value for name, value in optional.items() if value is not None}


def _orbitals(h: BlockMatrix) -> np.ndarray:
    rows = [
        (atom, l, m)
        for atom, z in enumerate(np.asarray(h.numbers).tolist())
        for l in h.basis.degrees(z)
        for m in range(-l, l + 1)
    ]
    return np.array(rows, dtype=np.int32).reshape(-1, 3)


def read_npz(path: str | Path) -> Sample:
    """Read a file that `write_npz` wrote; `FormatError` for anything else. No code of the file is run."""
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile) or "format" not in file or str(file["format"]) != FORMAT:
                raise FormatError(f"expected a file of harmose ({FORMAT})")
            if int(file["version"]) != VERSION:
                raise FormatError(f"expected version {VERSION}, got {int(file['version'])}")
            return _sample(file)
    except (HarmoseError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path}: not a readable .npz of harmose: {error}") from None
    except MemoryError:
        raise FormatError(f"{path}: not a readable .npz of harmose: its arrays do not fit into memory") from None


def _sample(file: Any) -> Sample:
    basis, spin = BasisSet.from_json(str(file["basis"])), Spin(str(file["spin"]))
    atoms = Atoms(file["numbers"].astype(np.int64), file["positions"], cell=file["cell"], pbc=file["pbc"])
    if species.ARRAY in file:
        atoms.set_array(species.ARRAY, file[species.ARRAY].astype(np.int64))
    numbers = species.species_of(atoms)
    pairs = file["keys"].astype(np.int64).reshape(-1, 5)[len(numbers) :]
    operators: dict[str, Any] = {}
    for name in OPERATORS:
        if name in file:
            values = file[name]
            # S of a collinear calculation has one component, the same for both spins.
            own = {1: Spin.NONE, 2: Spin.COLLINEAR, 4: Spin.SPINOR}[len(values)]
            operators[name] = BlockMatrix(basis, numbers, pairs, values.astype(own.dtype), own)
    energies: dict[str, Any] = {name: float(file[name]) for name in NUMBERS if name in file}
    atoms.info |= {key: file[name].item() for name, key in (("charge", "charge"), ("unpaired", "spin")) if name in file}
    if "moments" in file:
        atoms.set_initial_magnetic_moments(file["moments"])
    return Sample(
        name=str(file["name"]),
        structure=atoms,
        basis=basis,
        spin=spin,
        orbital_energies=file.get("orbital_energies"),
        provenance=dict(json.loads(str(file["provenance"]))),
        **operators,
        **energies,
    )
