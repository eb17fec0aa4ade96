"""CP2K's matrix files: text and binary hold the same, damaged files and file sets are refused."""

import numpy as np
import pytest

from harmose.errors import FormatError
from harmose.io.cp2k.cp2k import read_cp2k
from harmose.io.cp2k.csr import RECORD, image_files, matrix_files, read_csr
from harmose.io.cp2k.output import read_output
from harmose.io.files import read

ROWS, COLS, VALUES = np.array([1, 1, 3]), np.array([1, 2, 3]), np.array([0.5, -0.25, 2.0])


def binary() -> bytes:
    table = np.zeros(3, RECORD)
    table["head"] = table["tail"] = 16
    table["row"], table["col"], table["value"] = ROWS, COLS, VALUES
    return table.tobytes()


def text() -> bytes:
    return b"".join(b"%d %d %.6f\n" % row for row in zip(ROWS.tolist(), COLS.tolist(), VALUES.tolist()))


@pytest.mark.parametrize("content", [binary, text])
def test_text_and_binary(tmp_path, content):
    (tmp_path / "x.csr").write_bytes(content())
    rows, cols, values = read_csr(tmp_path / "x.csr", 3)
    assert rows.tolist() == [0, 0, 2]
    assert cols.tolist() == [0, 1, 2]
    assert values.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            binary()[:-3],
            "expected records of 24 bytes, got 69 bytes: the file is cut off; copy it again, or run CP2K again",
        ),
        (binary()[:24] + bytes(24), "expected Fortran records"),
        (text()[:-3], "expected whole lines"),
        (b"1 1\n", "expected lines `row column value`"),
        (b"1 4 0.5\n", "expected rows and columns from 1 to 3, got 1 to 4"),
    ],
)
def test_damaged_files(tmp_path, content, match):
    (tmp_path / "x.csr").write_bytes(content)
    with pytest.raises(FormatError, match=rf"x\.csr: {match}"):
        read_csr(tmp_path / "x.csr", 3)


NAMES = [
    # FILENAME, and what CP2K writes for it
    ("ham", "harmose-ham-{}.csr"),
    ("./ham", "ham-{}.csr"),
    ("outputs/ham", "outputs/ham-{}.csr"),
    ("./outputs/", "outputs/harmose-{}.csr"),
]


@pytest.mark.parametrize(("given", "written"), [*NAMES, ("outputs/ham", "ham-{}.csr"), (None, "harmose-{}.csr")])
@pytest.mark.parametrize("iteration", [True, False])
def test_names_of_the_input(chain, given, written, iteration):
    """FILENAME in the sections of the matrices; files may be moved beside the output; the iteration may be missing."""
    whole = read_cp2k(chain)
    (chain / "outputs").mkdir()
    for file in list(chain.glob("*.csr")):
        middle = file.stem.removeprefix("harmose-").removesuffix("" if iteration else "-1_0")
        file.rename(chain / written.format(middle))
    content = (chain / "harmose.inp").read_text()
    for name in ("KS", "S") if given else ():
        content = content.replace(f"&{name}_CSR_WRITE\n", f"&{name}_CSR_WRITE\n FILENAME {given}\n")
    (chain / "harmose.inp").write_text(content)
    sample = read_cp2k(chain)
    assert np.array_equal(sample.hamiltonian.values, whole.hamiltonian.values)
    assert np.array_equal(sample.overlap.values, whole.overlap.values)


def test_missing_files_are_named_as_in_the_input(chain):
    for file in chain.glob("*.csr"):
        file.unlink()
    content = (chain / "harmose.inp").read_text()
    (chain / "harmose.inp").write_text(content.replace("&KS_CSR_WRITE\n", "&KS_CSR_WRITE\n FILENAME ./outputs/ham\n"))
    with pytest.raises(FormatError, match=r"outputs: expected ham-KS_SPIN_1\*.csr, found none; .* &KS_CSR_WRITE with"):
        read_cp2k(chain)


def test_run_of_a_user(shared_data, chain):
    """The kept run, renamed: FILENAME ./outputs/ham."""
    sample = read(shared_data / "cases" / "08-cp2k-filename" / "run")
    whole = read_cp2k(chain)
    assert (sample.hamiltonian.n_orbitals, sample.fermi_level) == (10, pytest.approx(-1.8413926, abs=1e-6))
    assert np.array_equal(sample.hamiltonian.values, whole.hamiltonian.values)
    assert np.array_equal(sample.overlap.values, whole.overlap.values)


def test_files_of_a_run(chain):
    output = read_output(chain / "harmose.out")
    files = matrix_files(output)
    assert {prefix for prefix, _, _ in files} == {"KS", "S"}
    images = image_files("KS", 1, output, files)
    assert [file.name for file, _ in images[:2]] == ["harmose-KS_SPIN_1_R_1-1_0.csr", "harmose-KS_SPIN_1_R_2-1_0.csr"]
    np.testing.assert_array_equal([cell for _, cell in images], output.images["KS"])
    images[2][0].unlink()
    with pytest.raises(FormatError, match=r"missing harmose-KS_SPIN_1_R_3-\*\.csr; the output lists 23 images"):
        image_files("KS", 1, output, matrix_files(output))
