"""Records of samples: round trip, header, and errors."""

from dataclasses import replace

import numpy as np
import pytest

from harmose.core.blocks import BlockMatrix
from harmose.data.record import decode, encode, read_header
from harmose.errors import FormatError, MatrixError, StructureError
from harmose.spin import Spin


@pytest.mark.parametrize("spin", Spin)
def test_round_trip(random_crystal, spin):
    sample = random_crystal(spin)
    sample.structure.info.update(charge=-1, source="dropped")
    again = decode(encode(sample), sample.name, sample.basis)
    np.testing.assert_array_equal(again.hamiltonian.values, sample.hamiltonian.values)
    np.testing.assert_array_equal(again.overlap.values, sample.overlap.values)
    assert again.hamiltonian.values.dtype == spin.dtype
    assert again.prior is None
    assert again.structure == sample.structure
    assert again.structure.info == {"charge": -1}
    assert "unpaired" not in read_header(encode(sample))
    assert (again.spin, again.n_electrons, again.fermi_level) == (spin, 14.0, -1.25)


def test_charge_and_unpaired_electrons(water_sample):
    sample = water_sample(0)
    sample.structure.info["spin"] = 2
    sample.structure.set_initial_charges([1.0, 0.5, 0.5])
    assert decode(encode(sample), sample.name, sample.basis).structure.info == {"charge": 2, "spin": 2}
    sample.structure.info["charge"] = 0
    with pytest.raises(StructureError, match="sample water-0: expected initial charges whose sum is"):
        encode(sample)


@pytest.mark.parametrize("moments", [[0.0, 1.5, -1.5], [[0.0, 0, 0], [0, 1, 0], [0, 0, -1]], [0.0, 0.0, 0.0]])
def test_initial_moments(water_sample, moments):
    sample = water_sample(0)
    sample.structure.set_initial_magnetic_moments(moments)
    again = decode(encode(sample), sample.name, sample.basis).structure
    np.testing.assert_array_equal(again.get_initial_magnetic_moments(), moments)
    assert again.info == {}  # where an SCF began says nothing of where it ended


def test_operators_of_one_spin_share_their_tables(water_sample):
    sample = water_sample(0)
    again = decode(encode(sample), sample.name, sample.basis)
    assert again.overlap.keys is again.hamiltonian.keys
    assert again.overlap.offsets is again.hamiltonian.offsets


def test_header_is_read_without_matrices(water_sample):
    sample = water_sample(0, provenance={"cycles": np.int64(9), "mesh": np.array([3, 3, 1])})
    header = read_header(encode(sample))
    assert header["name"] == "water-0"
    assert header["operators"] == {"hamiltonian": "none", "overlap": "none", "prior": "none"}
    assert header["provenance"] == {"cycles": 9, "mesh": [3, 3, 1]}


def test_errors(water_sample):
    sample = water_sample(0)
    with pytest.raises(FormatError, match="the record belongs to 'water-0'"):
        decode(encode(sample), "water-1", sample.basis)
    with pytest.raises(FormatError, match="sample water-0: provenance is not JSON"):
        encode(replace(sample, provenance={"code": {1, 2}}))
    h = sample.hamiltonian
    fewer = BlockMatrix(h.basis, h.numbers, h.pairs[:-1], h.values[:, : h.offsets[-2]])
    with pytest.raises(MatrixError, match="sample water-0: overlap has other atoms or blocks than the Hamiltonian"):
        encode(replace(sample, overlap=fewer))
