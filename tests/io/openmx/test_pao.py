"""OpenMX's radial functions: values, which of them a name takes, damaged files, and S of real runs without OpenMX."""

import gzip

import numpy as np
import pytest
from tests.io.openmx.pao_files import CUTOFF, pao_text, shape, write_pao

import harmose
from harmose.core.basis import BasisSet, Shell
from harmose.errors import BasisError, FormatError
from harmose.io.openmx.openmx import read_openmx
from harmose.io.openmx.pao import read_pao, read_paos, read_paos_like
from harmose.io.openmx.run import OPENMX_BOHR

S2P2D1 = (Shell(1, 0), Shell(2, 0), Shell(2, 1), Shell(3, 1), Shell(3, 2))


@pytest.mark.parametrize("name", ["C5.0.pao", "C5.0.pao.gz"])
def test_functions_of_a_name(tmp_path, name):
    basis = harmose.basis("C5.0-s2p2d1", write_pao(tmp_path / name))
    assert basis.basis == BasisSet("openmx", {6: S2P2D1}, {6: 2.645887})  # 5 Bohr, rounded up
    r = np.linspace(0.01, 5.2, 400)
    for function, (l, k) in zip(basis.of(6), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]):
        np.testing.assert_allclose(function(r * OPENMX_BOHR) * OPENMX_BOHR**1.5, shape(r, l, k), atol=2e-4)
        grid, values = function.samples()
        assert np.sum((grid * values) ** 2) * function.step == pytest.approx(1, abs=1e-4)
    assert basis.of(6)[0].step == pytest.approx((CUTOFF + 0.5) / 900 * OPENMX_BOHR)


def test_several_elements_from_a_folder(tmp_path):
    write_pao(tmp_path / "PAO" / "C5.0.pao")
    write_pao(tmp_path / "PAO" / "H4.0.pao", number=1, cutoff=4.0)
    write_pao(tmp_path / "PAO" / "H4.5.pao", number=1, cutoff=4.5)
    for folder in (tmp_path / "PAO", tmp_path):
        basis = harmose.basis(["C5.0-s1p1", "H4.0-s1"], folder)
        assert basis.basis.degrees(6) == (0, 1)
        assert dict(basis.basis.radii) == {1: 2.116709, 6: 2.645887}
    assert harmose.basis(["C5.0-s1p1", "H4.0-s1"], ["C"], tmp_path).elements == (6,)
    files = [tmp_path / "PAO" / "H4.0.pao", tmp_path / "PAO" / "C5.0.pao"]
    assert harmose.basis(["C5.0-s1p1", "H4.0-s1"], files=files).elements == (1, 6)
    with pytest.raises(FormatError, match=r"C6.0-s1: expected the file C6.0.pao, or a folder"):
        harmose.basis("C6.0-s1", tmp_path)
    with pytest.raises(BasisError, match="a second one for H"):
        read_paos(["H4.0-s1", "H4.5-s1"], [tmp_path])


def test_functions_of_a_basis_set(tmp_path):
    """Without names, the radius says which file of a folder it is."""
    write_pao(tmp_path / "H4.0.pao", number=1, cutoff=4.0)
    write_pao(tmp_path / "H4.5.pao", number=1, cutoff=4.5)
    basis = BasisSet("openmx", {1: (Shell(1, 0), Shell(2, 0))}, {1: 4.5 * OPENMX_BOHR})
    expected = harmose.basis("H4.5-s2", tmp_path).of(1)
    r = np.linspace(0, 3, 50)
    for functions in (
        read_paos_like(basis, [tmp_path]),
        read_paos_like(basis, [tmp_path], {"H": "H4.5-s2"}),
        read_paos_like(basis, [tmp_path / "H4.5.pao"]),
    ):
        assert functions.basis == basis
        for a, b in zip(functions.of(1), expected):
            np.testing.assert_array_equal(a(r), b(r))
    write_pao(tmp_path / "H4.5S.pao", number=1, cutoff=4.5)
    with pytest.raises(FormatError, match=r"a cutoff of 4.5 Bohr, got H4.5.pao, H4.5S.pao; give the file"):
        read_paos_like(basis, [tmp_path])
    with pytest.raises(BasisError, match="expected one file for each element"):
        read_paos_like(basis, [tmp_path / "H4.5.pao", tmp_path / "H4.0.pao"])
    with pytest.raises(FormatError, match="got none; give the file"):
        read_paos_like(BasisSet("openmx", {6: (Shell(1, 0),)}, {6: 3.0}), [tmp_path])


def test_contracted_functions(tmp_path):
    """Two functions contracted to two are the two of the file; fewer are made while OpenMX runs."""
    path = write_pao(tmp_path / "C5.0.pao")
    assert harmose.basis("C5.0-s22p22", path).basis == harmose.basis("C5.0-s2p2", path).basis
    with pytest.raises(BasisError, match="contracted ones, which OpenMX makes while it runs"):
        harmose.basis("C5.0-s21p2", path)


def test_more_functions_than_the_file_has(tmp_path):
    path = write_pao(tmp_path / "C5.0.pao")
    with pytest.raises(BasisError, match="expected at least 4 functions of l = 0, got 3"):
        harmose.basis("C5.0-s4", path)
    with pytest.raises(BasisError, match="expected at least 1 functions of l = 3, got 0"):
        harmose.basis("C5.0-s1f1", path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("C5.0-s2p2",), r"expected its .pao file or a folder .* 'DFT_DATA19/PAO'"),
        (("C5.0.pao",), r"expected also the name of the basis set"),
        (("sto-3g", ["C"], "C5.0.pao"), "expected names of OpenMX"),
    ],
)
def test_what_is_missing_is_named(arguments, text):
    with pytest.raises(BasisError, match=text):
        harmose.basis(*arguments)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("AtomSpecies             6", "AtomSpecies             0", "an empty or virtual atom"),
        ("AtomSpecies             6", "AtomSpecies             6.2", "AtomSpecies 6.2"),
        ("AtomSpecies", "Species", "a number after AtomSpecies, got none"),
        ("radial.cutoff.pao     5.0", "radial.cutoff.pao     x", "radial.cutoff.pao, got 'x'"),
        ("radial.cutoff.pao     5.0", "radial.cutoff.pao     1e9", "0.5 to 50 Bohr"),
        ("PAO.Lmax   2", "PAO.Lmax   9", "PAO.Lmax from 0 to 6"),
        ("PAO.Lmax   2", "PAO.Lmax   3", "the functions of l = 3"),
        ("PAO.Mul    3", "PAO.Mul    4", "rows of 6 numbers"),
        ("PAO.Mul    3", "PAO.Mul    0", "PAO.Mul from 1"),
    ],
)
def test_damaged_files(tmp_path, old, new, text):
    content = pao_text()
    assert old in content
    (tmp_path / "C.pao").write_text(content.replace(old, new))
    with pytest.raises(FormatError, match=text) as raised:
        read_pao(tmp_path / "C.pao")
    assert str(tmp_path / "C.pao") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_functions_that_are_not_normalised(tmp_path):
    path = tmp_path / "C.pao"
    path.write_text(pao_text(cutoff=5.0).replace("radial.cutoff.pao     5.0", "radial.cutoff.pao     2.0"))
    assert read_pao(path).cutoff == 2.0  # the functions do not end there, and are the same
    lines = pao_text().splitlines()
    start = lines.index("<pseudo.atomic.orbitals.L=0") + 1
    for k in range(start, start + 600):
        x, r, first, *rest = lines[k].split()
        lines[k] = " ".join([x, r, f"{1.1 * float(first):.15f}", *rest])
    path.write_text("\n".join(lines))
    with pytest.raises(FormatError, match=r"a norm of 1.21 for l = 0, function 1"):
        harmose.basis("C5.0-s1", path)


@pytest.mark.parametrize("name", ["C.pao", "C.pao.gz"])
def test_truncated_files(tmp_path, name):
    whole = write_pao(tmp_path / name).read_bytes()
    for fraction in np.linspace(0, 0.97, 12):
        (tmp_path / name).write_bytes(whole[: int(fraction * len(whole))])
        with pytest.raises(FormatError) as raised:
            read_pao(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_other_files(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        read_pao(tmp_path / "none.pao")
    (tmp_path / "a.pao").write_bytes(b"\x80\xff <html>")
    with pytest.raises(FormatError, match="a number after AtomSpecies"):
        read_pao(tmp_path / "a.pao")
    (tmp_path / "bomb.pao.gz").write_bytes(gzip.compress(bytes(101_000_000), 1))
    with pytest.raises(FormatError, match="more than 100 MB"):
        read_pao(tmp_path / "bomb.pao.gz")


CASES = [
    "openmx-graphene",
    "openmx-small-graphene",
    "openmx-h2o",
    "openmx-small-oh-col",
    "openmx-small-oh-nc",
    "openmx-bisb-soc",
    "openmx-small-bisb-soc",
    "openmx-385-h2o",
    "openmx-385-small-graphene",
    "openmx-385-small-oh-nc",
]
"""All runs but that of iron, whose file Fe6.0H.pao is not among the data."""


@pytest.mark.parametrize("case", CASES)
def test_overlap_of_real_runs(shared_data, case):
    """S is OpenMX's to 1e-5 or better: 2e-8 for first-row elements, 1.5e-6 for bismuth beside antimony."""
    folder = shared_data / "openmx-pao"
    if not folder.is_dir():
        pytest.skip("there are no .pao files beside the data")
    sample = read_openmx(next((shared_data / "dft-outputs" / case).glob("*.scfout")))
    functions = read_paos(list(sample.provenance["settings"]["pao"].values()), [folder])
    assert functions.basis == sample.basis
    s = harmose.overlap(sample.structure, functions)
    np.testing.assert_array_equal(s.pairs, sample.overlap.pairs)
    np.testing.assert_allclose(s.values, sample.overlap.values, rtol=0, atol=1e-5 if "bisb" in case else 2e-7)
    again = read_paos_like(sample.basis, [folder])
    r = np.linspace(0, 4, 50)
    for z in sample.basis.elements:
        for a, b in zip(functions.of(z), again.of(z)):
            np.testing.assert_array_equal(a(r), b(r))
