"""`rsft recipes methods`: list the PEFT methods."""

from dataclasses import asdict

import typer

from rsft.cli.display.console import console, make_table, print_json
from rsft.cli.options import documented

app = typer.Typer(add_completion=False)


@app.command("methods")
@documented
def list_methods(*, as_json: bool) -> None:
    """List the PEFT methods: those of rsft, and the tuners of the installed peft.

    Each method is tried with its default settings on a vision transformer of one block
    and width 256. A recipe names a tuner as `peft: {method: hf, config: {peft_type:
    OFT}}`. Tuners that cannot be used follow with the reason.
    """
    from rsft.plugins.huggingface.listing import try_methods

    trials = list(try_methods())
    if as_json:
        print_json([asdict(trial) for trial in trials])
        return
    rows = [
        (
            trial.name,
            f"{trial.trained_parameters:,}",
            "yes" if trial.merges else "no",
            "yes" if trial.has_scales else "no",
        )
        for trial in trials
        if not trial.reason
    ]
    columns = ("method", "trained parameters", "merges", "learns scales")
    console.print(make_table("", columns, rows))
    reasons = [(trial.name, trial.reason) for trial in trials if trial.reason]
    console.print(
        make_table(
            "", ("not usable", "reason"), reasons, texts=("not usable", "reason")
        )
    )
