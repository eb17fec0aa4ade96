"""Elements and blocks of an operator give the same operator again through `io.assembly`."""

import numpy as np
import pytest

from harmose.io.assembly import from_blocks, from_elements, hamiltonian_rules
from harmose.io.disassembly import all_blocks, all_elements
from harmose.so3.conventions import Convention
from harmose.spin import Spin

OTHER = Convention("other", {1: (2, 0, 1), 2: (4, 0, 3, 1, 2)}, {1: (1, -1, 1), 2: (1, 1, -1, 1, -1), 3: (-1,) * 7})


@pytest.mark.parametrize("spin", list(Spin))
def test_elements(random_crystal, spin):
    sample = random_crystal(spin)
    rows, cols, cells, values = all_elements(sample.hamiltonian)
    rules = hamiltonian_rules(complete=True)
    again = from_elements(sample.structure, sample.basis, rows, cols, cells, values, rules, spin)
    assert np.array_equal(again.values, sample.hamiltonian.values)


@pytest.mark.parametrize("spin", list(Spin))
def test_blocks_in_another_order_and_sign(random_crystal, spin):
    sample = random_crystal(spin)
    blocks = all_blocks(sample.hamiltonian, OTHER)
    assert len(blocks.keys) == 3 + 2 * len(sample.hamiltonian.pairs)
    again = from_blocks(
        sample.structure,
        sample.basis,
        blocks.keys,
        blocks.values,
        hamiltonian_rules(complete=True),
        spin,
        OTHER,
        shapes=blocks.shapes,
    )
    np.testing.assert_allclose(again.values, sample.hamiltonian.values, atol=1e-15, rtol=0)


def test_largest_and_selected_blocks(random_crystal):
    h = random_crystal(Spin.SPINOR).hamiltonian
    blocks = all_blocks(h)
    largest = blocks.largest()
    for (i, j, *cell), shape, start, end, most in zip(
        blocks.keys.tolist(), blocks.shapes, blocks.offsets, blocks.offsets[1:], largest
    ):
        expected = h.block(i, j, tuple(cell))
        assert np.array_equal(blocks.values[:, start:end].reshape(4, *shape), expected)
        assert most == np.abs(expected).max()
    every_third = np.arange(len(largest)) % 3 == 0
    fewer = blocks.selected(every_third)
    assert np.array_equal(fewer.largest(), largest[every_third])
    assert fewer.offsets[-1] == fewer.values.shape[1]
