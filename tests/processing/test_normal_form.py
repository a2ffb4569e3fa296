import re
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processing import normalise_answer

TABLE = {
    "Yes": "yes",
    " No. ": "no",
    "NO!": "no",
    "The left lung": "left lung",
    "a cat and an apple": "cat and apple",
    "A": "a",
    "?": "?",
    "two": "2",
    "Twenty": "twenty",
    "ten": "10",
    "zero": "0",
    "None": "none",
    "x-ray": "x ray",
    "T2-weighted": "t2 weighted",
    "1,000": "1000",
    "red, green": "red green",
    "1.5 cm": "1.5 cm",
    "approx. 5 cm.": "approx 5 cm",
    "-5": "-5",
    "(-5)": "-5",
    "+5?": "+5",
    "5-10": "5-10",
    "don't": "dont",
    "the patient’s left": "patient's left",
    "left/right": "left/right",
    "50%": "50%",
    "CT (contrast)": "ct contrast",
    "  many\tspaces \n": "many spaces",
    "ﬁbrosis": "fibrosis",
    "ÉCHO": "écho",
    "A.P.": "ap",
    "P.A.": "pa",
    "U.S.A.": "usa",
    "10 a.m.": "10 am",
    "N/A": "n/a",
    "plan A": "plan a",
    "Hepatitis A": "hepatitis a",
    "10²": "10^2",
    "10⁻⁵ m": "10^-5 m",
    "1½": "1 1/2",
    "12:30": "12:30",
    "<5 cm": "< 5 cm",
    "1e-05": "0.00001",
    "الكبد؟": "الكبد",
    "什么。": "什么",
}

# Spellings of one answer.
SAME = [
    ("don't", "don´t", "dont", "don’t", "DON`T"),
    ("can't", "cant"),
    ("o'clock", "oclock"),
    ("−5", "-5", "–5", "—5", "－5", "(-5)"),
    ("yes", "yes\u200b", "\ufeffyes", "ye\u00ads", "yes\u200d", "yes?", "yes...", "“Yes”", "'yes'", '"yes"', "(yes)"),
    (".5", "0.5"),
    ("2", "2.0", "2.00", "two", "２"),
    ("0.00001", "1e-05", "1E-05"),
    ("x-ray", "X ray", "an x-ray", "x‑ray"),
    ("t-shirt", "T shirt", "a t-shirt"),
    ("5-6", "5–6", "5 - 6", "five-six"),
    ("<5 cm", "< 5 cm"),
    ("5 x 5 cm", "5x5 cm", "5×5 cm", "5 × 5 cm"),
    ("A+", "A +"),
    ("5°", "5º"),
    ("hepatitis A", "hepatitis A!"),
    ("≤5", "<=5", "<= 5"),
    ("±5", "+/-5", "± 5"),
    ("12:30", "12 : 30"),
    ("1/2", "½", "1 / 2", "1⁄2"),
    ("50%", "50 %", "５０％"),
    ("37 °C", "37°C", "37 ℃", "37°c"),
    ("black & white", "black and white"),
    ("A.P.", "AP", "a.p", "A. P."),
    ("J.F. Kennedy", "J. F. Kennedy"),
    ("CO₂", "CO2"),
    ("10²", "10^2"),
    ("No. 5", "no. five", "№ 5"),
    ("a dog", "A dog.", "the dog", "dog"),
    ("dog on a couch", "a dog on the couch"),
    ("ring-enhancing lesion", "Ring enhancing lesion"),
    ("pleural_effusion", "Pleural effusion"),
    ("café", "cafe\u0301"),
    ("red; green", "red, green"),
]

# Answers with different meanings.
DIFFERENT = [
    ("Hepatitis A", "hepatitis", "hepatitis B"),
    ("vitamin A deficiency", "vitamin deficiency"),
    ("A positive", "positive", "A negative"),
    ("A and B", "and B", "B"),
    ("A: dog", "dog", "B: dog"),
    ("(A) dog", "dog"),
    ("A. Smith", "Smith"),
    ("A-line", "line"),
    ("A P", "P"),
    ("a few", "few"),
    ("a little", "little"),
    ("A.P.", "P.A.", "P"),
    ("a.m.", "p.m.", "m"),
    ("N/A", "n", "na"),
    ("A", "A+", "A-"),
    ("O", "O+", "O-"),
    ("Rh+", "Rh-"),
    ("+ve", "-ve"),
    ("C", "C++", "C#"),
    ("neg", "A neg", "B neg"),
    ("DNA", "A DNA"),
    ("causes B", "A causes B", "B causes A"),
    ("scan", "A scan", "B scan"),
    ("toàn", "an toàn"),
    ("x = y", "x != y"),
    ("gram rods", "gram - rods", "gram + rods"),
    ("no left", "no - left"),
    ("no", "N.O."),
    ("left", "A (left)", "B (left)"),
    ("R&B", "RB"),
    ("5", ".5", "-5", "+5", "5!", "$5", "#5", "~5", "±5", "5%", "5°", '5"', "5'"),
    ("2.5", "-2.5", "25", "2 5", "2,5"),
    ("<5 cm", ">5 cm", "5 cm", "≤5 cm", "≥5 cm", "=5 cm", "≠5 cm"),
    ("102", "10²", "10₂", "10 2", "10^3"),
    ("105", "10⁵", "10⁻⁵"),
    ("12:30", "12 30", "1230", "12.30"),
    ("1/2", "12", "1 2", "1:2", "2/1"),
    ("1½", "11/2", "1/2"),
    ("5-6", "56", "5 6", "5 -6"),
    ("5'6\"", "56", "5 6"),
    ("1,5", "15", "1 5"),
    ("0,125", "125", "0125"),
    ("1,000", "1.000", "1"),
    ("[5, 6]", "(5, 6)", "5, 6"),
    ("①②", "12"),
    ("1①", "11"),
    ("C3-C7", "C3, C7"),
    ("x-1", "x1"),
    ("3.10", "3.1"),
    ("we're", "were"),
    ("it's", "its"),
    ("I'll", "ill"),
    ("she'll", "shell"),
    ("we'd", "wed"),
    ("the patient's", "the patients"),
    ("no one", "No. 1", "no 1"),
    ("none", "0", "no"),
    ("finger(s)", "fingers"),
    ("f(x)", "fx"),
    ("Maße", "Masse"),
    ("schon", "schön"),
    ("👩\u200d💻", "👩💻"),
]


@pytest.mark.parametrize("answer, expected", TABLE.items())
def test_normalisation(answer, expected):
    assert normalise_answer(answer) == expected


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_spellings_of_one_answer_have_one_form(spellings):
    assert len({normalise_answer(answer) for answer in spellings}) == 1, list(map(normalise_answer, spellings))


@pytest.mark.parametrize("answers", DIFFERENT, ids=lambda answers: " ".join(answers[:2]))
def test_answers_with_other_meanings_have_other_forms(answers):
    forms = list(map(normalise_answer, answers))
    assert len(set(forms)) == len(answers), forms


PIECES = (
    *"aAbx059.,;:!?-–−+/'’\"“()[]<>=~^_%°&#²₂½①…№¿ \u200b\u200d\u0301\u1fef",
    *("the", "an", "and", "no", "one", "two", "dog", "few", "cm", " a ", "n't", "No. ", "1,000", "1e-05", "2.0", " - "),
)
answers = st.lists(st.sampled_from(PIECES), max_size=9).map("".join) | st.text(max_size=12)


@settings(max_examples=300, deadline=None)
@given(answers)
@example("vitamin-A deficiency")
@example("a the a dog")
@pytest.mark.slow
def test_normalising_twice_changes_nothing(answer):
    form = normalise_answer(answer)
    assert normalise_answer(form) == form
    assert form or not re.sub(r"\W", "", answer)


numbers = (
    st.integers(-3000, 3000).map(str)
    | st.decimals(-1000, 1000, places=2).map(str)
    | st.floats(-1e5, 1e5, allow_nan=False).map(str)
    | st.integers(1000, 10**7).map("{:,}".format)
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(numbers, numbers)
@example("1e-05", "1e-06")
def test_no_number_becomes_another(one, other):
    value, other_value = (Decimal(text.replace(",", "")) for text in (one, other))
    assert Decimal(normalise_answer(one)) == value
    if value != other_value:
        assert normalise_answer(one) != normalise_answer(other)
        assert normalise_answer(f"{one} cm") != normalise_answer(f"{other} cm")


def test_what_is_no_answer_is_refused_by_name():
    for gap in (None, float("nan")):
        with pytest.raises(ValueError, match=f"expected an answer, found {gap}"):
            normalise_answer(gap)
    with pytest.raises(ValueError, match="text or a number, found dict"):
        normalise_answer({"answer": "red"})
