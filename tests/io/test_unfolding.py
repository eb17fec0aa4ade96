"""Sums over periodic images: every pair is put back into its image, or the run is refused."""

import numpy as np
import pytest
from ase import Atoms

from harmose.core.graph import pair_vectors
from harmose.errors import FormatError
from harmose.io.unfolding import nearest_cells, unfolded_cells

REMEDY = "run with more k-points"


@pytest.fixture
def box() -> Atoms:
    """Three atoms, one of them outside the home cell, whose images are 12 angstrom away and more."""
    positions = [[0.5, 0.5, 0.5], [11.0, 0.7, 0.4], [0.3, -1.0, 25.0]]
    return Atoms("HHe2", positions, cell=[[12.0, 0, 0], [3.0, 13.0, 0], [0, 1.0, 14.0]], pbc=True)


def every_pair(n: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.divmod(np.arange(n * n), n)
    return i, j


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
def test_pairs_go_to_the_image_within_reach(box, pbc):
    box.pbc = pbc
    reach = np.array([2.0, 3.5, 2.5])
    i, j = every_pair(3)
    cells = unfolded_cells(box, reach, i, j, "file", REMEDY)
    vectors = pair_vectors(box, np.column_stack([i, j, cells]))
    found = np.linalg.norm(vectors, axis=1)
    shifts = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * pbc
    least = np.linalg.norm(box.positions[j] + (shifts @ box.cell.array)[:, None] - box.positions[i], axis=-1).min(
        axis=0
    )
    np.testing.assert_allclose(found, least, atol=1e-9)
    assert not cells[:, ~np.array(pbc)].any()
    assert cells.any()
    assert np.array_equal(cells.reshape(3, 3, 3), -cells.reshape(3, 3, 3).transpose(1, 0, 2))


def test_several_images_within_reach_are_refused(box):
    i, j = every_pair(3)
    with pytest.raises(
        FormatError, match=r"^file: .* at the Gamma point: atom 0 reaches atom 0 in cells \[0, 0, 0\], "
    ):
        unfolded_cells(box, np.full(3, 6.5), i, j, "file", REMEDY)
    with pytest.raises(FormatError, match=r"atom 0 reaches atom 1 in cells \[0, 0, 0\], \[-1, 0, 0\] \(run with more"):
        unfolded_cells(box, np.array([1.0, 10.0, 1.0]), np.array([0]), np.array([1]), "file", REMEDY)


def test_pairs_without_elements_are_not_ambiguous(box):
    """Atom 1 reaches atom 0 in several images, but they have no common element."""
    i, j = np.array([0, 0, 2]), np.array([0, 2, 2])
    cells = unfolded_cells(box, np.array([1.0, 10.9, 1.0]), i, j, "file", REMEDY)
    assert cells.tolist() == [[0, 0, 0], nearest_cells(box, np.array([0]), np.array([2]))[0].tolist(), [0, 0, 0]]


def test_isolated_atom_and_nothing(box):
    one = Atoms("H", cell=[12.0] * 3, pbc=True)
    assert (
        unfolded_cells(one, np.array([3.0]), np.zeros(4, int), np.zeros(4, int), "file", REMEDY).tolist()
        == [[0] * 3] * 4
    )
    assert unfolded_cells(one, np.array([3.0]), np.zeros(0, int), np.zeros(0, int), "file", REMEDY).shape == (0, 3)
    assert nearest_cells(Atoms("H2", [[0, 0, 0], [9, 0, 0]]), np.array([0]), np.array([1])).tolist() == [[0, 0, 0]]
