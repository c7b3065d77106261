"""Commands of data sets."""

from pathlib import Path

from rsft.data.prepare.registry import format_prepare_command


def test_command_is_quoted_for_a_shell():
    options = {"names": None, "min_size": 4, "val": 0.2, "ratio": 100.0}
    command = format_prepare_command(
        "folder", Path("raw data/船"), root=Path("out"), **options
    )
    assert (
        command == "rsft prepare folder 'raw data/船' --root out --min-size 4 --val 0.2"
        " --ratio 100"
    )
