import pickle

from rsft.errors import (
    DataError,
    Fault,
    Interrupted,
    RecipeError,
    RequestError,
    RsftError,
    WeightsError,
)

FAULT = Fault("r.yaml", 3, "peft.rnk", "8", "did you mean peft.rank?")


def test_message_location_and_hint_are_on_one_line():
    assert str(RsftError("it broke", "a.tif", "fix it")) == "it broke | a.tif | fix it"
    assert str(RsftError("it broke")) == "it broke"
    codes = [
        error_class("x").exit_code
        for error_class in (RsftError, RequestError, DataError, WeightsError)
    ]
    assert codes == [1, 2, 1, 1]
    assert Interrupted(2).exit_code == 130  # as in shells


def test_errors_of_a_worker_process_arrive_complete():
    for error in (
        RequestError("a", "b", "c"),
        RecipeError([FAULT]),
        Interrupted(15, "run", "resume"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (
            type(copy) is type(error)
            and str(copy) == str(error)
            and copy.exit_code == error.exit_code
        )
        assert vars(copy) == vars(error)


def test_recipe_error_lists_every_fault():
    error = RecipeError([FAULT, Fault("r.yaml", 0, "x", "1", "no")])
    lines = [
        "r.yaml:3: peft.rnk: found 8; did you mean peft.rank?",
        "r.yaml: x: found 1; no",
    ]
    assert error.exit_code == 2 and str(error).splitlines() == [
        "2 faults in the recipe",
        *lines,
    ]
    values = {
        "file": "r.yaml",
        "line": 3,
        "key": "peft.rnk",
        "found": "8",
        "allowed": "did you mean peft.rank?",
    }
    assert FAULT.as_json() == values
