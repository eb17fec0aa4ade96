"""Rows grouped by an integer key."""

import numpy as np

from harmose.core.grouping import rows_by_key


def test_every_row_is_in_the_group_of_its_key():
    keys = np.array([3, 0, 3, 7, 0])
    groups = dict(rows_by_key(keys))
    assert list(groups) == [0, 3, 7]
    assert [rows.tolist() for rows in groups.values()] == [[1, 4], [0, 2], [3]]


def test_no_rows_no_groups():
    assert not list(rows_by_key(np.zeros(0, dtype=int)))
