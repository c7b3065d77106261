"""The command line of the paper's tables: without a table, and with an unknown one."""

import pytest

from rsft.errors import RequestError
from tools.reproduction.paper.__main__ import main
from tools.reproduction.paper.cells import read_tables
from tools.reproduction.paper.pages import NOT_RUN


def test_tables_are_listed(capsys, tmp_path):
    main(["--runs", str(tmp_path / "none")])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == len(read_tables()) + 2
    (row,) = [line.split("|") for line in lines if "Table 4 " in line]
    assert int(row[5]) > 0 and row[6].strip() == NOT_RUN


def test_results_are_printed_without_a_run(capsys, tmp_path):
    main(["table4", "--report", "--runs", str(tmp_path), "train.epochs=2"])
    page = capsys.readouterr().out
    assert page.startswith("### Table 4") and "`train.epochs=2`" in page


def test_an_unknown_table_is_named():
    with pytest.raises(RequestError, match="table99"):
        main(["table99"])
