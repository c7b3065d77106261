from rsft.plugins.sweeps.lines import TrialLines
from rsft.study.outcomes import TrialOutcome


def keys(rank, scale):
    return {"peft.rank": rank, "peft.scale": scale}


def finished(rank, scale, value):
    return TrialOutcome(keys(rank, scale), "done", "", {"val_macro": value}, 61.4)


def test_one_line_per_trial():
    said = []
    reported = []
    lines = TrialLines(
        "val_macro", 4, 1, said.append, lambda *words: reported.append(words)
    )
    for name, rank, scale in (("b", 2, 1.0), ("c", 4, 0.5), ("d", 4, 1.0)):
        lines.on_start(name, keys(rank, scale))
    lines.on_end("b", finished(2, 1.0, 0.755))
    lines.on_end("c", TrialOutcome(keys(4, 0.5), "failed", "the loss is [nan]"))
    lines.on_end("d", None)
    assert said == [
        "2/4  peft.rank 2  peft.scale 1.0  val_macro 75.5  61 s",
        "3/4  peft.rank 4  peft.scale 0.5  failed: the loss is [nan]",
        "3/4  peft.rank 4  peft.scale 1.0  stopped",
    ]
    assert reported[0] == (1, 4, "trials") and reported[-1] == (3, 4, "trials")
