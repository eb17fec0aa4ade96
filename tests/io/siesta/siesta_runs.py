"""Small runs of SIESTA: random matrices of a chain of C and O, written by sisl."""

from pathlib import Path

import numpy as np
from ase import Atoms

from harmose.core.basis import BasisSet, Shell
from harmose.io.assembly import zeros
from harmose.io.disassembly import all_elements
from harmose.io.siesta.siesta import SIESTA
from harmose.spin import Spin
from harmose.units import BOHR, RYDBERG

BASIS = BasisSet(
    "siesta", {6: (Shell(2, 0), Shell(2, 1)), 8: (Shell(2, 0), Shell(2, 1), Shell(3, 2))}, {6: 1.9, 8: 2.3}
)


def random_matrices(chain: Atoms, kind: str) -> tuple:
    """H and S: random, Hermitian, S near 1. `nc`: du = conj(ud) for each pair of orbitals."""
    rng = np.random.default_rng(8)

    def real_symmetric():
        operator = zeros(chain, BASIS)
        _, row, col = operator.indices
        values = rng.normal(size=row.shape)
        on = operator.is_onsite
        matrix = np.zeros((operator.n_orbitals,) * 2)
        matrix[row[on], col[on]] = values[on]
        values[on] = ((matrix + matrix.T) / 2)[row[on], col[on]]
        return values

    s = zeros(chain, BASIS)
    _, row, col = s.indices
    s = s.with_values(np.where(s.is_onsite, row == col, 0.02 * real_symmetric())[None] * 1.0)
    spin = {"none": Spin.NONE, "collinear": Spin.COLLINEAR}.get(kind, Spin.SPINOR)
    h = zeros(chain, BASIS, spin)
    if spin is not Spin.SPINOR:
        return h.with_values(np.stack([real_symmetric() for _ in range(spin.n_components)])), s
    up_down = real_symmetric() + 1j * real_symmetric()
    if kind == "nc":
        return h.with_values(np.stack([real_symmetric() + 0j, up_down, up_down.conj(), real_symmetric() + 0j])), s
    antisymmetric = np.where(h.is_onsite & (row == col), 0, np.where(row < col, 1, -1)) * real_symmetric()
    other = np.where(h.is_onsite, up_down.conj(), up_down + real_symmetric())
    values = np.stack([real_symmetric() + 1j * antisymmetric, up_down, other, real_symmetric() - 1j * antisymmetric])
    return h.with_values(values), s


def write_with_sisl(
    folder: Path, chain: Atoms, h, s, kind: str, ending: str = "HSX", drop: tuple | None = None
) -> Path:
    import sisl

    def atom(z: int):
        orbitals = [
            sisl.AtomicOrbital(n=x.n, l=x.l, m=m, zeta=x.zeta, R=2.0)
            for x in BASIS.shells[z]
            for m in range(-x.l, x.l + 1)
        ]
        return sisl.Atom(z, orbitals)

    geometry = sisl.Geometry(
        chain.positions, [atom(int(z)) for z in chain.numbers], sisl.Lattice(chain.cell.array, nsc=[3, 1, 1])
    )
    kinds = {"none": "unpolarized", "collinear": "polarized", "nc": "non-colinear", "soc": "spin-orbit"}
    out = sisl.Hamiltonian(geometry, spin=sisl.Spin(kinds[kind]), orthogonal=False)
    degrees = [l for z in chain.numbers.tolist() for l in BASIS.degrees(z)]
    sign = SIESTA.indices(degrees)[1]
    starts = h.orbital_starts
    keys = np.concatenate([h.keys, np.column_stack([h.keys[2:, [1, 0]], -h.keys[2:, 2:]])])
    for i, j, *cell in keys.tolist():
        if (i, j, *cell) == drop:
            continue
        block = h.block(i, j, tuple(cell)).reshape(len(h.values), h.orbital_counts[i], -1)
        overlap = s.block(i, j, tuple(cell))
        for a, b in np.ndindex(overlap.shape):
            v, row, col = block[:, a, b], starts[i] + a, starts[j] + b
            if len(v) == 4:
                uu, ud, du, dd = v
                v = [uu.real, dd.real, ud.real, ud.imag]
                v += [uu.imag, dd.imag, du.real, du.imag] if kind == "soc" else []
            out[row, col, tuple(cell)] = np.array([*v, overlap[a, b]]) * sign[row] * sign[col]
    path = folder / f"chain.{ending}"
    out.write(str(path))
    rows = [np.append(x / BOHR, [0, 0, 0]) for x in (*chain.cell.array, *chain.positions)]
    lines = [" ".join(f"{x:.12f}" for x in row) for row in rows]
    atoms = [f"{k + 1} {z} {line}" for k, (z, line) in enumerate(zip(chain.numbers, lines[3:]))]
    lines = [*lines[:3], str(len(chain)), *atoms]
    (folder / "chain.XV").write_text("\n".join(lines) + "\n")
    return path


def write_orbital_table(folder: Path, chain: Atoms) -> None:
    rows, k = [], 0
    for atom, (symbol, z) in enumerate(zip(chain.symbols, chain.numbers.tolist()), start=1):
        for o, (shell, m) in enumerate([(s, m) for s in BASIS.shells[z] for m in range(-s.l, s.l + 1)], start=1):
            k += 1
            rows.append(f"{k} {atom} {atom} {symbol} {o} {shell.n} {shell.l} {m} {shell.zeta} F sym 3.2 0 0 0 {k}")
    text = "\n".join([f" {k} {3 * k} = orbitals in unit cell and supercell. See end of file.", "", "io ia", *rows])
    (folder / "chain.ORB_INDX").write_text(text + "\n")


def write_folded(folder: Path, path: Path) -> Path:
    """Write the sum of H(R) over all cells, as a run with the Gamma point only, to `chain.TSHS`; atoms as in `path`."""
    import sisl

    h = sisl.get_sile(path).read_hamiltonian()
    one_cell = sisl.Geometry(h.xyz, h.geometry.atoms, sisl.Lattice(h.cell, nsc=[1, 1, 1]))
    spins = [{"spin": 0}, {"spin": 1}] if h.spin.is_polarized else [{}]
    parts = [h.Hk(dtype=np.float64, **spin) for spin in spins]
    folded = sisl.Hamiltonian.fromsp(one_cell, parts, S=h.Sk(dtype=np.float64), spin=h.spin)
    folded.write(str(folder / "chain.TSHS"))
    return folder / "chain.TSHS"


def write_netcdf(folder: Path, chain: Atoms, h, s, kind: str, fermi_level: float = -0.25) -> Path:
    """Write `chain.nc` by the layout in `io.siesta.netcdf`. The Fermi level is in Ry; projectors end at 0.5 Bohr."""
    import h5py

    rows, cols, cells, values = all_elements(h)
    overlap = dict(zip(zip(rows.tolist(), cols.tolist(), map(tuple, cells.tolist())), all_elements(s)[-1][0].tolist()))
    # The file's element (a, b, R) is <b, home cell | H | a, cell -R>.
    offsets = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    order = np.lexsort((rows, -cells[:, 0] % 3, cols))
    rows, cols, cells, values = rows[order], cols[order], cells[order], values[:, order]
    sign = SIESTA.indices([l for z in chain.numbers.tolist() for l in BASIS.degrees(z)])[1]
    signs = sign[rows] * sign[cols]
    if kind in ("none", "collinear"):
        parts = list(values.real)
    else:
        uu, ud, du, dd = values
        parts = [uu.real, dd.real, ud.real, -ud.imag]
        parts += [uu.imag, dd.imag, du.real, du.imag] if kind == "soc" else []
    path = folder / "chain.nc"
    with h5py.File(path, "w") as file:
        file["cell"], file["xa"] = chain.cell.array / BOHR, chain.positions / BOHR
        file["nsc"], file["lasto"] = [3, 1, 1], np.cumsum([BASIS.n_orbitals(z) for z in chain.numbers.tolist()])
        file["Ef"], file["Qtot"], file["BASIS/basis"] = [fermi_level], [10.0], [1, 2]
        for k, (label, z) in enumerate((("C.1", 6), ("O_up", 8)), start=1):
            group = file.create_group(f"BASIS/{label}")
            group.attrs["ID"], group.attrs["Atomic_number"] = np.array([k], "i4"), np.array([z], "i4")
            for name, number in (("n", "n"), ("l", "l"), ("z", "zeta")):
                group[f"orbnl_{name}"] = [getattr(shell, number) for shell in BASIS.shells[z]]
            group["cutoff"] = [(BASIS.radii[z] - 0.05) / BOHR - 0.5] * len(BASIS.shells[z])
            group["kbcutoff"] = [0.5, 0.4]
        file["SPARSE/n_col"] = np.bincount(cols, minlength=h.n_orbitals)
        file["SPARSE/list_col"] = rows + h.n_orbitals * (-cells[:, 0] % 3) + 1
        file["SPARSE/isc_off"] = offsets
        file["SPARSE/H"] = np.array(parts) * signs / RYDBERG
        keys = zip(rows.tolist(), cols.tolist(), map(tuple, cells.tolist()))
        file["SPARSE/S"] = np.array([overlap[key] for key in keys]) * signs
    return path
