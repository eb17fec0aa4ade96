"""6. Teach harmose to read the files of another code.

    python examples/6_add_a_reader.py

Writes `water.toy` and `copy.toy` to the current folder. "ToyCode" is made up: it writes
molecules as JSON, in Rydberg and Bohr, with p orbitals in the order x, y, z. In the package
such a reader would be a file of `src/harmose/io/` (CONTRIBUTING.md); outside of it, a
function and a call of `register` are enough.
"""

import json
from pathlib import Path

import numpy as np
import pyscf
from ase import Atoms
from ase.data import atomic_numbers

import harmose
from harmose.core.blocks import block_values
from harmose.core.files import atomic_path
from harmose.errors import FormatError
from harmose.io.assembly import zeros
from harmose.io.files import Format, register
from harmose.so3.conventions import Convention
from harmose.testing import assert_round_trip
from harmose.units import BOHR, RYDBERG

# Step 1: write down what differs. harmose has eV, angstrom, and orbitals of a shell in the
# order m = -l, ..., l, which for p is y, z, x. So our m-th p orbital is number 1, 2, 0 of
# ToyCode's.
TOYCODE = Convention("toycode", {1: (1, 2, 0)})

RADIUS = 6.0  # angstrom; ToyCode's files do not say how far orbitals reach, so that all pairs of a small molecule get a block


# Step 2: a function of a path that returns a sample. Units, order and signs change here and
# nowhere else.
def read_toy(path, basis=None):
    """Read a file of ToyCode. `basis`: basis set with the radii to use, else each radius is `RADIUS`."""
    try:
        content = json.loads(Path(path).read_text())
        atoms = Atoms(content["symbols"], BOHR * np.array(content["positions"]))
        shells = {atomic_numbers[symbol]: letters for symbol, letters in content["shells"].items()}
        h, s = RYDBERG * np.array(content["hamiltonian"]), np.array(content["overlap"])
    except (ValueError, KeyError) as error:
        raise FormatError(f"{path}: expected a file of ToyCode, got one that cannot be read ({error})") from None
    if basis is None:
        basis = basis_set(shells)
    degrees = [l for z in atoms.numbers for l in basis.degrees(z)]
    blocks = zeros(atoms, basis)
    return harmose.Sample(
        name=Path(path).stem,
        structure=atoms,
        basis=basis,
        hamiltonian=block_values(TOYCODE.to_inside(h, degrees), blocks, name="H"),
        overlap=block_values(TOYCODE.to_inside(s, degrees), blocks, name="S"),
        n_electrons=content.get("electrons"),  # None where the file does not say: never a guess
        provenance={"code": "toycode"},
    )


def basis_set(shells):
    """Basis set of shells such as `{8: "ssp", 1: "s"}`."""
    made = {}
    for z, letters in shells.items():
        degrees = ["spdf".index(letter) for letter in letters]
        made[z] = tuple(
            harmose.Shell(n=l + 1 + degrees[:k].count(l), l=l)  # 1s, 2s, 2p: the k-th shell of degree l has n = l + k
            for k, l in enumerate(degrees)
        )
    return harmose.BasisSet("toy", made, dict.fromkeys(made, RADIUS))


# A writer is optional. `atomic_path` makes the file appear complete or not at all.
def write_toy(path, sample):
    """Write a file of ToyCode."""
    degrees = [l for z in sample.structure.numbers for l in sample.basis.degrees(z)]
    content = {
        "symbols": sample.structure.get_chemical_symbols(),
        "positions": (sample.structure.positions / BOHR).tolist(),
        "shells": {
            symbol: "".join("spdf"[l] for l in sample.basis.degrees(atomic_numbers[symbol]))
            for symbol in set(sample.structure.get_chemical_symbols())
        },
        "hamiltonian": (TOYCODE.from_inside(sample.hamiltonian.dense(), degrees) / RYDBERG).tolist(),
        "overlap": TOYCODE.from_inside(sample.overlap.dense(), degrees).tolist(),
        "electrons": sample.n_electrons,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content))


# Step 3: register it. From now on `harmose.read`, `read_all` and `write` know the format.
def is_toy(path):
    """True if `path` is a file of ToyCode."""
    return path.suffix == ".toy"


register(Format("toycode", "ToyCode's JSON", is_toy, read=read_toy, write=write_toy))

# Step 4: test against something independent. Here PySCF plays ToyCode: its matrices go into
# the file in ToyCode's units and order, and its orbital energies must come out.
mol = pyscf.M(atom="O 0 0 0.117; H 0 0.757 -0.471; H 0 -0.757 -0.471", basis="sto-3g", verbose=0)
mf = pyscf.scf.RHF(mol).run()
file = {
    "symbols": ["O", "H", "H"],
    "positions": mol.atom_coords().tolist(),
    "shells": {"O": "ssp", "H": "s"},
    "hamiltonian": (2 * mf.get_fock()).tolist(),  # 1 Hartree is 2 Rydberg
    "overlap": mf.get_ovlp().tolist(),
    "electrons": 10,
}
Path("water.toy").write_text(json.dumps(file))

sample = harmose.read("water.toy")
energies = harmose.eigenvalues(sample.hamiltonian, sample.overlap)[0]
print("orbital energies (eV):", energies.round(4))
assert np.allclose(energies, 2 * RYDBERG * mf.mo_energy, atol=1e-6)

# What is written and read again is the same.
assert_round_trip(harmose.read, lambda path, s: harmose.write(path, s, format="toycode"), sample, "copy.toy")
print("read, checked against PySCF, and written again")
