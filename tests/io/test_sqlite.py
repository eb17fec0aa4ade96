"""SQLite databases are recognised, read only, and damaged ones are refused."""

import sqlite3
from contextlib import closing

import pytest

from harmose.errors import FormatError
from harmose.io.sqlite import columns, is_sqlite, open_sqlite


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE data (id INTEGER, pos BLOB)")
        connection.execute("CREATE VIEW seen AS SELECT id FROM data")
        connection.execute("INSERT INTO data VALUES (3, NULL)")
        connection.commit()
    return path


def test_columns(database, tmp_path):
    assert is_sqlite(database)
    assert columns(database, "data") == ["id", "pos"]
    assert columns(database, "seen") == []
    assert columns(database, "other") == []
    (tmp_path / "x.txt").write_text("text")
    assert not is_sqlite(tmp_path / "x.txt")
    assert not is_sqlite(tmp_path)
    assert columns(tmp_path / "x.txt", "data") == []


def test_connection_is_read_only(database):
    with open_sqlite(database) as connection:
        assert connection.execute("SELECT id FROM data").fetchall() == [(3,)]
    with pytest.raises(FormatError, match=r"x\.db: .*readonly"), open_sqlite(database) as connection:
        connection.execute("DELETE FROM data")


def test_damaged_and_missing_databases(database):
    database.write_bytes(database.read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"x\.db: expected an SQLite database"), open_sqlite(database) as connection:
        connection.execute("SELECT * FROM data").fetchall()
    with pytest.raises(FormatError, match="no such file"), open_sqlite(database.with_name("y.db")):
        pass
