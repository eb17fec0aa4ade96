"""Records: the bytes of one sample, a safetensors file with its arrays and, as JSON metadata, the rest of the sample.

Arrays: numbers (N,) int16, which are those of species (`core.species`), positions (N, 3) and cell (3, 3) in angstrom, pbc
(3,), pairs (P, 5) int32, the block values (n_components, size) of hamiltonian and prior in eV and of overlap, and
orbital_energies in eV. Other numbers are float64; complex numbers are stored as real part, imaginary part. `structure.info`
is dropped but for the charge and, where it is stated, the number of unpaired electrons (`spin` of `info`, `unpaired` in a
record). Initial magnetic moments are an array `moments`, (N,) or (N, 3), where they are stated. Loading runs no code.
"""

import json
from typing import Any

import numpy as np
from ase import Atoms
from safetensors import SafetensorError
from safetensors.numpy import load, save

from harmose.core.basis import BasisSet
from harmose.core.blocks import BlockMatrix
from harmose.core.electrons import stated_charge, stated_moments, stated_unpaired
from harmose.core.sample import Sample
from harmose.core.species import atomic_numbers_of, species_of, with_species
from harmose.errors import FormatError, MatrixError
from harmose.spin import Spin

OPERATORS = ("hamiltonian", "overlap", "prior")
NUMBERS = ("n_electrons", "fermi_level", "energy")


def encode(sample: Sample) -> bytes:
    """The record of a sample.

    Raises `MatrixError` for operators with different atoms or pairs, `StructureError` for a charge that is no number.
    """
    h, atoms = sample.hamiltonian, sample.structure
    arrays = {
        "numbers": species_of(atoms).astype(np.int16),
        "positions": np.asarray(atoms.positions, dtype=np.float64),
        "cell": np.asarray(atoms.cell.array, dtype=np.float64),
        "pbc": np.asarray(atoms.pbc, dtype=np.bool_),
        "pairs": np.asarray(h.pairs, dtype=np.int32).reshape(-1, 5),
    }
    moments = stated_moments(atoms)
    if moments is not None:  # records without them keep their digest
        arrays["moments"] = np.asarray(moments, dtype=np.float64)
    spins = {}
    for name in OPERATORS:
        operator: BlockMatrix | None = getattr(sample, name)
        if operator is not None:
            same_atoms = np.array_equal(operator.numbers, species_of(atoms))
            if not same_atoms or not np.array_equal(operator.pairs, h.pairs):
                raise MatrixError(f"sample {sample.name}: {name} has other atoms or blocks than the Hamiltonian")
            spins[name] = operator.spin.value
            arrays[name] = np.ascontiguousarray(operator.values, dtype=operator.spin.dtype).view(np.float64)
    if sample.orbital_energies is not None:
        arrays["orbital_energies"] = np.asarray(sample.orbital_energies, dtype=np.float64)
    header = {"name": sample.name, "spin": sample.spin.value, "operators": spins}
    header |= {name: getattr(sample, name) for name in NUMBERS} | {"provenance": dict(sample.provenance)}
    header["charge"] = stated_charge(atoms, f"sample {sample.name}")
    unpaired = stated_unpaired(atoms, f"sample {sample.name}")
    if unpaired is not None:  # records without it keep their digest
        header["unpaired"] = unpaired
    try:
        text = json.dumps(header, default=_numpy_as_plain)
    except TypeError as error:
        raise FormatError(f"sample {sample.name}: provenance is not JSON ({error})") from None
    return save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, metadata={"sample": text})


def _numpy_as_plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def read_header(raw: bytes) -> dict[str, Any]:
    """The JSON part of a record: all of the sample but the arrays."""
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["sample"])
    if not isinstance(header, dict) or not isinstance(header.get("provenance"), dict):
        raise FormatError("expected a sample's header")
    return header


def n_pairs(raw: bytes) -> int:
    """The number of pairs of a record, read without its arrays."""
    size = int.from_bytes(raw[:8], "little")
    return int(json.loads(raw[8 : 8 + size])["pairs"]["shape"][0])


def decode(raw: bytes, name: str, basis: BasisSet) -> Sample:
    """The sample of a record. Raises `HarmoseError`, `ValueError`, `KeyError`, `TypeError` or `AttributeError`."""
    header = read_header(raw)
    if header["name"] != name:
        raise FormatError(f"the record belongs to {header['name']!r}")
    try:
        arrays = load(raw)
    except SafetensorError as error:
        raise FormatError(str(error)) from None
    numbers, pairs = arrays["numbers"].astype(np.int64), arrays["pairs"].astype(np.int64)
    operators: dict[str, BlockMatrix] = {}
    for key in OPERATORS:
        if key in header["operators"]:
            spin = Spin(header["operators"][key])
            values = arrays[key].view(spin.dtype)
            # Operators of the same spin share the tables of block places of the first.
            first = next((operator for operator in operators.values() if operator.spin is spin), None)
            operators[key] = first.with_values(values) if first else BlockMatrix(basis, numbers, pairs, values, spin)
    atoms = Atoms(atomic_numbers_of(numbers), arrays["positions"], cell=arrays["cell"], pbc=arrays["pbc"])
    atoms = with_species(atoms, numbers)
    if header.get("charge") is not None:
        atoms.info["charge"] = header["charge"]
    if header.get("unpaired") is not None:
        atoms.info["spin"] = header["unpaired"]
    if "moments" in arrays:
        atoms.set_initial_magnetic_moments(arrays["moments"])
    return Sample(
        name=name,
        structure=atoms,
        basis=basis,
        hamiltonian=operators["hamiltonian"],
        overlap=operators.get("overlap"),
        prior=operators.get("prior"),
        spin=Spin(header["spin"]),
        orbital_energies=arrays.get("orbital_energies"),
        provenance=header["provenance"],
        **{key: header[key] for key in NUMBERS},
    )
