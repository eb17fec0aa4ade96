"""`harmose data`: ls, check, split, merge."""

from dataclasses import replace

import pytest

from harmose.cli import main
from harmose.data.store import Store


def test_ls(water_store, capsys):
    with Store.open(water_store, writable=True) as store:
        store.remember_failure("bad", "not converged in [3] cycles")
        digest = store.digest[:16]
    assert main(["data", "ls", str(water_store), "--samples"]) == 0
    out = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert lines["samples"].split() == ["samples", "8"]
    assert lines["elements"].split() == ["elements", "H", "O"]
    assert lines["splits"].split(maxsplit=1)[1].strip() == "train 6, val 2"
    assert "sto-3g" in lines["basis"]
    assert digest in out
    assert "failed: bad: not converged in [3] cycles" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("water-")]
    assert rows[6] == [
        "water-6", "H2O", "3", "7", "-2006.000000", "val", "group-3",
    ]  # fmt: skip


def test_check(water_store, water_sample, capsys):
    assert main(["data", "check", str(water_store)]) == 0
    assert capsys.readouterr().out.strip() == "8 samples checked, none of them bad"
    with Store.open(water_store, writable=True) as store:
        store.append(water_sample(0, name="copy"))
    assert main(["data", "check", str(water_store)]) == 1
    out = capsys.readouterr().out
    assert "copy: the same structure as 'water-0'" in out
    assert "9 samples checked, 1 of them bad" in out


def test_split(water_store, capsys):
    command = ["data", "split", str(water_store), "--train", "0.5", "--val", "0.25", "--test", "0.25", "--by", "group"]
    assert main(command) == 2
    assert "has the splits train, val already; --force replaces them" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert capsys.readouterr().out.strip() == "train 4, val 2, test 2"
    with Store.open(water_store) as store:
        assert {name: len(samples) for name, samples in store.splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_merge(tmp_path, water_store, water_basis, water_sample, capsys):
    with Store.create(tmp_path / "b", water_basis, metadata={"functional": "hf", "basis": "sto-3g"}) as store:
        store.append(water_sample(8))
    out = tmp_path / "all"
    command = ["data", "merge", str(out), str(water_store), str(tmp_path / "b")]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == f"{out}: 9 samples"
    assert main(command) == 2
    assert f"{out}: exists already; --force replaces it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    with Store.open(out) as store:
        assert len(store) == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all", "b", "water"]


def test_force_keeps_other_folders(tmp_path, water_store, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert main(["data", "merge", str(tmp_path / "thesis"), str(water_store), "--force"]) == 2
    assert "expected a sample store or a file to replace, got another folder" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_ls_lays_out_few_rows_at_once(water_store, capsys, monkeypatch):
    """Rows in several pieces look like one table."""
    assert main(["data", "ls", str(water_store), "--samples"]) == 0
    whole = capsys.readouterr().out
    monkeypatch.setattr("harmose.cli.data.ROWS", 3)
    assert main(["data", "ls", str(water_store), "--samples"]) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        line.rstrip() for line in whole.splitlines()
    ]


def test_one_odd_sample(water_store, water_sample, capsys):
    odd = replace(water_sample(20), name="odd", provenance={"code": "pyscf", "basis": "6-31g"})
    with Store.open(water_store, writable=True) as store:
        store.append(odd)
    assert main(["data", "check", str(water_store)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "odd: calculated with the basis 6-31g, the store's is sto-3g",
        "9 samples checked, 1 of them bad",
    ]


@pytest.mark.parametrize(
    "command",
    [["ls", "--samples"], ["check"], ["split", "--force", "--by", "group"]],
    ids=lambda command: command[0],
)
def test_one_sample_at_a_time(water_store, water_sample, command, samples_alive):
    with Store.open(water_store, writable=True) as store:
        store.append_all(water_sample(k) for k in range(8, 40))
    assert main(["data", command[0], str(water_store), *command[1:]]) == 0
    assert samples_alive.most <= 2
    if command[0] != "split":  # which reads no matrices
        assert samples_alive.n == 40


def test_cache(tmp_path, water_store, capsys):
    cache = tmp_path / "water.cache"
    assert main(["data", "cache", str(water_store)]) == 0
    assert capsys.readouterr().out.strip() == f"{cache}: no prepared samples"
    (cache / "0123" / "parts").mkdir(parents=True)
    (cache / "0123" / "parts" / "0.safetensors").write_bytes(bytes(3 * 10**7))
    assert main(["data", "cache", str(water_store)]) == 0
    assert (
        capsys.readouterr().out.strip() == f"{cache / '0123'}: 0.03 GB, not complete: the same training goes on with it"
    )
    (cache / "mine").mkdir()
    (cache / "mine" / "thesis.txt").write_text("")
    assert main(["data", "cache", str(water_store), "--remove"]) == 2
    assert (
        f"{cache / 'mine'}: expected prepared samples, got something else: nothing was removed"
        in capsys.readouterr().err
    )
    (cache / "mine" / "thesis.txt").unlink()
    assert main(["data", "cache", str(water_store), "--remove"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{cache}: removed")
    assert not cache.exists()
