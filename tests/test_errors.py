from rsft.errors import DataError, Fault, RecipeError, RequestError, RsftError, WeightsError


def test_one_line_has_what_where_and_fix():
    assert str(RsftError("it broke", "a.tif", "fix it")) == "it broke | a.tif | fix it"
    assert str(RsftError("it broke")) == "it broke"


def test_exit_codes():
    assert [kind("x").exit_code for kind in (RsftError, RequestError, DataError, WeightsError)] == [1, 2, 1, 1]


def test_recipe_error_tells_every_fault():
    faults = [Fault("r.yaml", 3, "peft.rnk", "8", "did you mean peft.rank?"), Fault("r.yaml", 0, "x", "1", "no")]
    error = RecipeError(faults)
    assert error.exit_code == 2
    assert str(error).splitlines() == [
        "2 faults in the recipe",
        "r.yaml:3: peft.rnk: found 8; did you mean peft.rank?",
        "r.yaml: x: found 1; no",
    ]
