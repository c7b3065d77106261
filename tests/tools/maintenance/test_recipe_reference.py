from tools.maintenance.recipe_reference import PAGE, reference


def test_the_page_is_current():
    assert PAGE.read_text() == reference()
