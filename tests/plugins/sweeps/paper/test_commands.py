"""`rsft reproduce` without a table, and with one that the paper has not."""

from rsft.plugins.sweeps.paper.cells import read_tables
from rsft.plugins.sweeps.paper.pages import NOT_RUN


def test_tables_are_listed(rsft, tmp_path):
    code, printed = rsft("reproduce", "--runs", tmp_path / "none")
    assert code == 0
    lines = printed.splitlines()
    assert len(lines) == len(read_tables()) + 2
    (row,) = [line.split("|") for line in lines if "Table 4 " in line]
    assert int(row[5]) > 0 and row[6].strip() == NOT_RUN


def test_an_unknown_table_is_named(rsft):
    code, printed = rsft("reproduce", "table99")
    assert code == 2 and "table99" in printed
