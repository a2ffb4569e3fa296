import pytest

from processing.rewordings import question_groups, wording


def groups_of(questions, images=None, **columns):
    column = columns.pop("column", None)
    rows = {"image_key": images or ["a"] * len(questions), "question": questions, **columns}
    return question_groups(rows, column)


def test_near_words_about_the_same_image_are_one_question():
    asked = [
        "Is the spleen normal size?",
        "is the size of the spleen normal",
        "Where is the mass?",
        "what plane is this?",
    ]
    first, second, third, fourth = groups_of(asked)
    assert first == second and len({first, third, fourth}) == 3
    one, other = groups_of(["what plane?", "What plane"], ["a", "b"])
    assert one != other


def test_questions_that_a_third_one_is_near_to_are_one():
    middle = "is the liver enlarged or dark?"
    apart = groups_of(["is the liver enlarged?", "is it dark?"])
    linked = groups_of(["is the liver enlarged?", "is it dark?", middle, "dark or not: is it dark?"])
    assert len(set(apart)) == 2 and linked[1] == linked[3]
    assert linked[0] == linked[2]


def test_a_question_marked_as_a_rewording_joins_the_nearest_however_far():
    asked = ["Is there evidence of ascites?", "Is there fluid in the peritoneal cavity?", "what organ is it?"]
    plain = groups_of(asked)
    marked = groups_of(asked, phrase_type=["freeform", "para", "freeform"])
    assert len(set(plain)) == 3 and marked[0] == marked[1] != marked[2]


def test_a_column_says_it_where_there_is_one_and_a_gap_is_a_question_of_its_own():
    found = groups_of(["a?", "b?", "c?", "d?"], ["x", "x", "y", "x"], column="of", of=[1, 1, 1, None])
    assert found[0] == found[1] and len(set(found)) == 3
    gaps = groups_of(["a?", "b?", "c?"], column="of", of=["", "", "wording a"])
    assert len(set(gaps)) == 3


def test_names_of_groups_do_not_depend_on_the_order_and_signs_alone_are_words_too():
    asked = ["what plane is it?", "which plane is it?", "?", "??", "where?"]
    assert dict(zip(asked, groups_of(asked))) == dict(zip(asked[::-1], groups_of(asked[::-1])))
    assert len({*groups_of(["?", "!"])}) == 2


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("Is it < 5 cm?", "is it > 5 cm?", False),
        ("is the shift -5 mm?", "is the shift 5 mm?", False),
        ("is it .5 mm", "is it 5 mm", False),
        ("what is A+?", "what is A-?", False),
        ("क्या यह बच्चा है?", "क्या यह बच्ची है?", False),
        ("Where is  the mass?", "where is the mass", True),
        ("what is “this”, then?", "What is this then", True),
    ],
)
def test_signs_that_mean_something_are_wording_and_marks_around_words_are_not(one, other, same):
    assert (wording(one) == wording(other)) == same


def test_names_of_groups_and_what_is_held_out_as_one_never_collide():
    found = groups_of(["b c", "c"], ["x", "x a"], column="of", of=["a b", "b"])
    assert len(set(found)) == 2
    assert all("\n" not in name for name in groups_of(["a", "b"], column="of", of=["a\nb", "c"]))
