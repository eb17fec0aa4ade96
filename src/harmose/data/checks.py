"""Checks of a store: samples that must not be trained on."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from ase import Atoms

from harmose.core.blocks import BlockMatrix
from harmose.core.electrons import initial_moments
from harmose.core.graph import pair_vectors
from harmose.core.sample import Sample, check_sample
from harmose.core.species import species_of, symbol_of
from harmose.data.store import Store
from harmose.errors import HarmoseError
from harmose.so3.wigner import edge_wigner
from harmose.spin import Spin

ENERGY_TOLERANCE = 1e-3
"""Largest difference in eV between stored orbital energies and those of (H, S); DFT codes round to 1e-4."""

OVERLAP_TOLERANCE = 1e-3
"""Largest element of S between orbitals of different m in the frame of the bond; grids of NAO codes are that coarse."""

ONSITE_TOLERANCE = 1e-2
"""Largest difference of the on-site blocks of S of one element; grids of NAO codes change them by 1e-3."""


ALONE_AMONG = 20
"""Number of samples from which on an element should not be in one of them only."""


@dataclass(frozen=True)
class Problem:
    """One problem of the sample with this name."""

    sample: str
    text: str


def check(store: Store) -> list[Problem]:
    """All problems of a store's samples, in the store's order.

    A sample has a problem if its record cannot be read, if `check_sample` raises, if its calculation did not converge,
    or if an earlier sample has the same structure up to a rigid motion, with the same charge and moments. Orbital
    energies must be those of (H, S). Orbitals in a wrong order or with a wrong sign show in S: in the frame of the
    bond, S has no elements between different m. Other orbitals in shells of the same l show in the on-site blocks of
    S, which must be those of earlier samples. A functional or basis set that a sample names must be the store's. An
    element of one sample alone, among `ALONE_AMONG` or more, is a problem of this sample.
    """
    return [problem for problems in check_each(store) for problem in problems]


def check_each(store: Store) -> Iterator[list[Problem]]:
    """Problems of each sample of a store, as in `check`; last those that only show in the whole store."""
    first_names: dict[str, str] = {}
    onsite: dict[int, tuple[str, np.ndarray]] = {}
    seen: dict[int, str | None] = {}  # by species the only sample that has it, None if there are several
    settings = store.metadata
    for name in store.names():
        try:
            sample = store[name]
        except HarmoseError as error:
            yield [Problem(name, str(error))]
            continue
        texts = _problems(sample)
        first = first_names.setdefault(fingerprint(sample.structure) + electrons(sample.structure), name)
        if first != name:
            texts.append(f"the same structure as {first!r}")
        texts += _other_settings(sample, settings) + _other_orbitals(sample, onsite)
        seen |= {z: None if z in seen else name for z in set(species_of(sample.structure).tolist())}
        yield [Problem(name, text) for text in texts]
    if len(store) >= ALONE_AMONG:
        yield [Problem(name, _alone(z, len(store))) for z, name in seen.items() if name is not None]


def _alone(z: int, n_samples: int) -> str:
    return f"the only one of {n_samples} samples with {symbol_of(z)}: nothing can be learned about one example of an element"


def _other_settings(sample: Sample, settings: Mapping[str, Any]) -> list[str]:
    """Compare what the sample says about its calculation with the settings that all samples of the store share."""
    own = sample.provenance
    return [
        f"calculated with the {key} {own[key]}, the store's is {settings[key]}"
        for key in ("functional", "basis")
        if own.get(key) is not None and settings.get(key) is not None and own[key] != settings[key]
    ]


def _problems(sample: Sample) -> list[str]:
    try:
        check_sample(sample)
    except HarmoseError as error:
        return [str(error).removeprefix(f"sample {sample.name}: ")]
    texts = ["the calculation did not converge"] if sample.provenance.get("converged") is False else []
    if sample.overlap is not None:
        texts += _wrong_order(sample.structure, sample.overlap) + _wrong_energies(sample)
    return texts


def _other_orbitals(sample: Sample, onsite: dict[int, tuple[str, np.ndarray]]) -> list[str]:
    """Compare on-site blocks of S with `onsite`: by atomic number, a sample's name and its block. New elements are added."""
    overlap, others, worst, other_sample = sample.overlap, [], 0.0, ""
    if overlap is None:
        return []
    for z, atom in zip(*np.unique(species_of(sample.structure), return_index=True)):
        block = np.asarray(overlap.block(int(atom), int(atom)))
        first, expected = onsite.setdefault(int(z), (sample.name, block))
        difference = float(np.abs(block - expected).max())
        if not difference <= ONSITE_TOLERANCE:
            others.append(symbol_of(z))
            worst, other_sample = max((worst, other_sample), (difference, first))
    if not others:
        return []
    elements = ", ".join(others)
    return [f"other orbitals of {elements} than in {other_sample!r}: their on-site S differs by up to {worst:.3g}"]


def _wrong_energies(sample: Sample) -> list[str]:
    stored, overlap = sample.orbital_energies, sample.overlap
    if stored is None or overlap is None or sample.structure.pbc.any():
        return []
    h, s = sample.hamiltonian.dense(), overlap.dense()
    s = s if s.ndim == 2 else s[0]
    if sample.spin is Spin.SPINOR and overlap.spin is not Spin.SPINOR:
        s = np.kron(np.eye(2), s)
    solved = np.array([scipy.linalg.eigh(one, s, eigvals_only=True) for one in h.reshape(-1, *s.shape)])
    stored = np.asarray(stored).reshape(len(solved), -1)
    if stored.shape != solved.shape:
        return [f"expected {solved.shape[1]} orbital energies, got {stored.shape[1]}"]
    worst = float(np.abs(np.sort(stored) - solved).max())
    return (
        [f"the orbital energies of (H, S) differ from the stored ones by {worst:.3g} eV"]
        if worst > ENERGY_TOLERANCE
        else []
    )


def _wrong_order(atoms: Atoms, overlap: BlockMatrix) -> list[str]:
    """In the frame with the bond along z, the overlap of two atoms' orbitals vanishes unless m1 = m2."""
    if not len(overlap.pairs):  # an isolated atom
        return []
    vectors = pair_vectors(atoms, overlap.pairs)
    worst, where = 0.0, -1
    for (z1, z2), index, positions in overlap.groups():
        pairs = index - len(overlap.numbers)
        off = (pairs >= 0) & (np.linalg.norm(vectors[np.maximum(pairs, 0)], axis=1) > 1e-6)
        if not off.any():
            continue
        frame = vectors[pairs[off]]
        d = {l: edge_wigner(l, frame) for l in {*overlap.basis.degrees(z1), *overlap.basis.degrees(z2)}}
        blocks = overlap.values[0][positions[off]].real
        size = np.abs(_between_different_m(blocks, overlap.basis.degrees(z1), overlap.basis.degrees(z2), d))
        if size.max(initial=0.0) > worst:
            worst, where = float(size.max()), int(pairs[off][np.argmax(size.max(axis=(1, 2)))])
    if worst <= OVERLAP_TOLERANCE:
        return []
    i, j = overlap.pairs[where, :2]
    return [
        f"orbitals in a wrong order or sign: in the frame of atoms {i} and {j}, S couples different m by {worst:.3g}"
    ]


def _between_different_m(
    blocks: np.ndarray, left: Sequence[int], right: Sequence[int], d: Mapping[int, Any]
) -> np.ndarray:
    """Blocks (B, n1, n2) in the frame of the bond, with zeros for elements of equal m; `d[l]` (B, 2l+1, 2l+1)."""
    out = np.zeros_like(blocks)
    row = 0
    for l1 in left:
        column = 0
        for l2 in right:
            rows, columns = slice(row, row + 2 * l1 + 1), slice(column, column + 2 * l2 + 1)
            turned = d[l1] @ blocks[:, rows, columns] @ d[l2].transpose(0, 2, 1)
            m1, m2 = np.arange(-l1, l1 + 1), np.arange(-l2, l2 + 1)
            out[:, rows, columns] = np.where(m1[:, None] == m2, 0.0, turned)
            column += 2 * l2 + 1
        row += 2 * l1 + 1
    return out


def electrons(atoms: Atoms) -> str:
    """Charge, unpaired electrons and initial moments that a structure states, as text: other ones have another H."""
    moments = initial_moments(atoms)
    signs = "" if moments is None else np.round(moments, 2).tolist()
    return f" {atoms.info.get('charge') or 0} {atoms.info.get('spin') or 0} {signs}"


def fingerprint(atoms: Atoms, digits: int = 4) -> str:
    """Sixteen hexadecimal digits of a structure that rigid motions (molecules) or translations (crystals) do not
    change.

    Mirror images of a molecule have the same digits. Lengths are rounded to `digits` decimals in angstrom.
    """
    numbers, x = species_of(atoms), atoms.positions
    if atoms.pbc.any():
        scaled = atoms.get_scaled_positions(wrap=False)
        scaled -= scaled[0]
        scaled[:, atoms.pbc] -= np.floor(scaled[:, atoms.pbc] + 1e-6)
        lengths = np.concatenate([scaled @ atoms.cell.complete().array, atoms.cell.array])
    else:
        lengths = np.linalg.norm(x[:, None] - x, axis=-1)
    # The shift avoids that lengths written with few decimals lie halfway between two rounded values.
    rounded = np.round(lengths + 0.271828 * 10.0**-digits, digits) + 0.0
    return hashlib.sha256(numbers.tobytes() + rounded.tobytes()).hexdigest()[:16]
