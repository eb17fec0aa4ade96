"""Quality of a starting density: the electrons that the first SCF step moves, and the cycles beside those of minao.

    python benchmarks/scf_guard.py STORE NAME [NAME ...]

For samples of a store, at grid level 0, the exact H is disturbed by random errors, by a part of its difference from the
Fock matrix of superposed atoms, by shifts of atoms, or replaced by that of displaced atoms. PySCF (DIIS) starts from
each, without the guard of `harmose.scf.guard`, whose limit was chosen from these tables. An arrow marks starts that
need at least two cycles more than minao, or end at another energy.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pyscf import gto

from harmose.data.store import Store
from harmose.io.pyscf.pyscf import PySCFSettings, mean_field, molecule
from harmose.physics.density import density_from_dense
from harmose.scf.guard import LIMIT, moved_electrons
from harmose.scf.initial_guess import SAME_ENERGY


def disturbed(own, settings: PySCFSettings, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Names and matrices (order of PySCF, Hartree) that imitate bad predictions of the converged `own`."""
    mol, fock, s = own.mol, own.get_fock(), own.get_ovlp()
    for size in (1e-3, 2e-3, 3e-3, 5e-3, 8e-3, 1.5e-2):
        x = rng.normal(size=fock.shape)
        x = x + x.T
        yield f"random, mean {1e3 * size:g} mEh", fock + size * x / np.abs(x).mean()
    atoms_fock = own.get_fock(dm=own.get_init_guess(key="minao"))
    for part in (0.1, 0.3, 0.6, 1.0):
        yield f"{part:.0%} of the way to superposed atoms", fock + part * (atoms_fock - fock)
    for size in (0.02, 0.05, 0.1, 0.2):
        yield f"atoms moved by {size:g} angstrom", moved_atoms(mol, settings, size, rng)
    sizes = [b - a for a, b in mol.aoslice_by_atom()[:, 2:]]
    for size in (0.02, 0.05, 0.1, 0.3):
        shift = np.repeat(rng.normal(scale=size, size=mol.natm), sizes)
        yield f"atoms shifted by {size:g} Eh", fock + s * (shift[:, None] + shift) / 2


def moved_atoms(mol: gto.Mole, settings: PySCFSettings, size: float, rng: np.random.Generator) -> np.ndarray:
    coordinates = mol.atom_coords(unit="angstrom")
    other = mol.set_geom_(coordinates + rng.normal(scale=size, size=coordinates.shape), unit="angstrom", inplace=False)
    return mean_field(other, replace(settings, max_cycle=30)).run().get_fock()


def main(store_path: str, names: list[str]) -> None:
    rng = np.random.default_rng(5)
    with Store.open(store_path) as store:
        structures, labels = {name: store[name].structure for name in names}, dict(store.metadata)
    settings = PySCFSettings(labels["functional"], labels["basis"], 0, convergence_gradient=None)
    rows = []
    for name, atoms in structures.items():
        own = mean_field(molecule(atoms, settings.basis), settings).run()
        s, core, n = own.get_ovlp(), own.get_hcore(), own.mol.nelectron
        print(f"{name}: {n} electrons, {own.cycles} cycles from minao")
        for title, h in disturbed(own, settings, rng):
            density = density_from_dense(h, s, n)
            moved = moved_electrons(own, density, own.get_veff(dm=density), core, s) / n
            mf = mean_field(own.mol, settings)
            mf.kernel(dm0=density)
            same = abs(mf.e_tot - own.e_tot) < SAME_ENERGY
            more = mf.cycles - own.cycles
            rows.append((moved, more, same))
            mark = "" if same and more <= 1 else "  <--"
            print(f"  {title:36} moves {moved:8.4%}   {mf.cycles:3d} cycles ({more:+d})   same energy: {same}{mark}")
    for low, high in ((0, LIMIT), (LIMIT, 0.02), (0.02, 0.05), (0.05, 1)):
        inside = [(more, same) for moved, more, same in rows if low <= moved < high]
        if inside:
            worst, states = max(more for more, _ in inside), sum(not same for _, same in inside)
            print(
                f"{low:.1%} to {high:.1%}: {len(inside)} starts, at worst {worst:+d} cycles, {states} of another energy"
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
