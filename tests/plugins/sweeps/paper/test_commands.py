"""`rsft reproduce` without a table, and with one that the paper has not."""

from rsft.plugins.sweeps.paper.cells import read_tables


def test_tables_are_listed(rsft):
    code, printed = rsft("reproduce")
    assert code == 0
    lines = printed.splitlines()
    assert len(lines) == len(read_tables())
    assert sum(line.startswith("Table 4 ") for line in lines) == 1


def test_an_unknown_table_is_named(rsft):
    code, printed = rsft("reproduce", "table99")
    assert code == 2 and "table99" in printed
