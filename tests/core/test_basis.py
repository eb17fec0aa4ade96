"""Basis sets: counts, radii, JSON, fingerprints, merging, and errors."""

import json
import pickle

import numpy as np
import pytest

from harmose.core.basis import BasisSet, Shell, n_orbitals
from harmose.errors import BasisError

S, P, D = Shell(1, 0), Shell(2, 1), Shell(3, 2)


def small(name="small", **radii):
    """H: s; O: s s p."""
    radii = {1: 2.0, 8: 3.5} | {int(k.strip("z")): r for k, r in radii.items()}
    return BasisSet(name, {8: (S, Shell(2, 0), P), 1: (S,)}, radii)


def test_counts_and_radii():
    basis = small()
    assert basis.elements == (1, 8)
    assert basis.l_max == 1
    assert basis.degrees(8) == (0, 0, 1)
    assert [basis.n_orbitals(z) for z in (1, 8)] == [1, 5]
    assert basis.counts(np.array([8, 1, 1])).tolist() == [5, 1, 1]
    assert basis.reach([1, 8, 1]).tolist() == [2.0, 3.5, 2.0]
    assert basis.reach(iter([8, 1])).tolist() == [3.5, 2.0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_any_integer_type_of_numbers(dtype):
    basis = BasisSet("heavy", {1: (S,), 118: (S, P)}, {1: 1.0, 118: 2.0})
    numbers = np.array([118, 1], dtype=dtype)
    assert basis.counts(numbers).tolist() == [4, 1]
    assert basis.reach(numbers).tolist() == [2.0, 1.0]
    assert basis.restricted(numbers[:1]).elements == (118,)


def test_no_atoms():
    assert small().counts(np.array([], dtype=int)).shape == (0,)
    assert small().reach([]).shape == (0,)


def test_names_of_shells():
    assert [str(shell) for shell in (S, P, D, Shell(3, 2, 2), Shell(2, 0, 3))] == ["1s", "2p", "3d", "3d'", "2s''"]
    assert [shell.n_orbitals for shell in (S, P, D)] == [1, 3, 5]
    assert n_orbitals([S, P, D]) == n_orbitals([0, 1, 2]) == 9
    assert n_orbitals([]) == 0
    assert Shell(1, 0) < Shell(2, 0) < Shell(2, 1) < Shell(2, 1, 2)


def test_json_round_trip():
    basis = small()
    again = BasisSet.from_json(basis.to_json())
    assert again == basis
    assert again.shells == basis.shells
    assert again.radii == basis.radii
    assert again.fingerprint == basis.fingerprint
    assert hash(again) == hash(basis)


def test_json_keeps_radii():
    """A pair at the very edge of reach must not be in one graph and out of the other."""
    basis = BasisSet("thirds", {1: (S,)}, {1: 10 / 3})
    assert BasisSet.from_json(basis.to_json()).radii[1] == basis.radii[1] == 3.333333


def test_repr():
    assert repr(small()) == "BasisSet('small': H 1s, O 1s 2s 2p; radii up to 3.5 angstrom)"
    many = BasisSet("many", dict.fromkeys(range(1, 8), (S,)), dict.fromkeys(range(1, 8), 2.0))
    assert repr(many) == "BasisSet('many': H 1s, He 1s, Li 1s, Be 1s, 3 more elements; radii up to 2 angstrom)"
    assert repr(BasisSet("empty", {}, {})) == "BasisSet('empty': no elements; radii up to 0 angstrom)"


def test_pickle():
    basis = small()
    again = pickle.loads(pickle.dumps(basis))  # noqa: S301 - our own bytes, as dask sends them
    assert again == basis
    assert again.radii == basis.radii


def test_shells_and_radii_are_read_only():
    basis = small()
    with pytest.raises(TypeError):
        basis.shells[1] = (S, S)
    with pytest.raises(TypeError):
        basis.radii[1] = 9.0


def test_fingerprint():
    other = {
        "name": small("large"),
        "radius": small(z1=2.001),
        "order": BasisSet("small", {8: (S, P, Shell(2, 0)), 1: (S,)}, {1: 2.0, 8: 3.5}),
        "zeta": BasisSet("small", {8: (S, Shell(2, 0, 2), P), 1: (S,)}, {1: 2.0, 8: 3.5}),
        "element": small().restricted([8]),
    }
    prints = {basis.fingerprint for basis in other.values()}
    assert len(prints) == len(other)
    assert small().fingerprint not in prints
    assert len(small().fingerprint) == 16
    # the order of the elements is not information
    assert BasisSet("small", dict(reversed(small().shells.items())), small().radii) == small()
    assert small() != "small"


def test_restricted_and_merged():
    basis = small()
    assert basis.restricted([1]).elements == (1,)
    assert basis.restricted([1]).merged(basis.restricted([8])) == basis
    assert basis.merged(basis) == basis
    with pytest.raises(BasisError, match="expected one basis set, got small and large"):
        basis.merged(small("large"))
    with pytest.raises(BasisError, match="basis small: two different sets of shells for H"):
        basis.merged(BasisSet("small", {1: (S, S)}, {1: 2.0}))
    with pytest.raises(BasisError, match="two different sets of shells for O"):
        basis.merged(small(z8=3.6))


@pytest.mark.parametrize("ask", ["n_orbitals", "degrees"])
def test_error_names_missing_element(ask):
    with pytest.raises(BasisError, match="basis small: expected one of H, O, got C"):
        getattr(small(), ask)(6)


@pytest.mark.parametrize("ask", ["counts", "reach", "restricted"])
def test_error_names_missing_element_of_atoms(ask):
    with pytest.raises(BasisError, match="basis small: expected one of H, O, got Fe"):
        getattr(small(), ask)(np.array([1, 26]))


def test_error_names_impossible_element():
    with pytest.raises(BasisError, match="got atomic number 119"):
        small().n_orbitals(119)
    with pytest.raises(BasisError, match="basis empty: it has no elements, got H"):
        BasisSet("empty", {}, {}).n_orbitals(1)


IMPOSSIBLE = {
    "elements differ": ({1: (S,)}, {8: 1.0}, "basis bad: expected shells and radii for the same elements"),
    "no such element": ({0: (S,)}, {0: 1.0}, "basis bad: expected an element, got atomic number 0"),
    "no shells": ({1: ()}, {1: 1.0}, "basis bad: expected at least one shell for H, got none"),
    "negative l": ({1: (Shell(1, -1),)}, {1: 1.0}, "l = 0..6, zeta >= 1 for H, got n = 1, l = -1, zeta = 1"),
    "huge l": ({1: (Shell(9, 10**9),)}, {1: 1.0}, "for H, got n = 9, l = 1000000000, zeta = 1"),
    "n of nothing": ({1: (Shell(0, 0),)}, {1: 1.0}, "expected shells with n >= 1"),
    "radius zero": ({1: (S,)}, {1: 0.0}, "basis bad: expected a positive radius for H, got 0.0"),
    "radius NaN": ({1: (S,)}, {1: float("nan")}, "expected a positive radius for H, got nan"),
    "radius infinite": ({1: (S,)}, {1: float("inf")}, "expected a positive radius for H, got inf"),
}


@pytest.mark.parametrize(("shells", "radii", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_values_raise(shells, radii, message):
    with pytest.raises(BasisError, match=message):
        BasisSet("bad", shells, radii)


GOOD = json.loads(small().to_json())
HOSTILE = {
    "empty": "",
    "not JSON": "{name: small}",
    "a list": "[1, 2]",
    "no elements": '{"name": "x"}',
    "elements a list": '{"name": "x", "elements": [1]}',
    "element a word": json.dumps({"name": "x", "elements": {"H": GOOD["elements"]["1"]}}),
    "shell too long": '{"name": "x", "elements": {"1": {"shells": [[1, 0, 1, 5]], "radius": 1}}}',
    "shell a word": '{"name": "x", "elements": {"1": {"shells": ["1s"], "radius": 1}}}',
    "no radius": '{"name": "x", "elements": {"1": {"shells": [[1, 0, 1]]}}}',
    "infinite shell": '{"name": "x", "elements": {"1": {"shells": [[1, Infinity, 1]], "radius": 1}}}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_other_json_raises(text):
    with pytest.raises(BasisError, match="basis set: expected JSON with name and elements, got") as caught:
        BasisSet.from_json(text)
    assert len(str(caught.value)) < 300
