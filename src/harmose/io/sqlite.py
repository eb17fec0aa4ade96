"""Open SQLite databases for reading."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harmose.errors import FormatError

MAGIC = b"SQLite format 3\0"


def is_sqlite(path: Path) -> bool:
    """True if a file begins with the signature of SQLite."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def open_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection; `FormatError` if the database is missing, damaged or another file, also inside the block."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise FormatError(f"{path}: expected an SQLite database, got a damaged or another file ({error})") from None


def columns(path: Path, table: str) -> list[str]:
    """Return the names of a table's columns; none if there is no such table (a view is not a table)."""
    if not is_sqlite(path):
        return []
    with open_sqlite(path) as connection:
        is_table = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()
        if is_table is None:
            return []
        return [str(name) for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
