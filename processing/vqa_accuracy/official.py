"""The form of an answer by which the VQA evaluation compares it: its published rules, kept as they are.

Antol et al. 2015, "VQA: Visual Question Answering"; https://visualqa.org/evaluation.html: lower case; no periods but
decimal points; digits for number words; no articles; apostrophes for contractions that lack them; a space for
punctuation other than apostrophe and colon, but nothing for it where a space is beside it or a comma stands between two
digits. docs/explanations/answer_normalisation.md says where `normal_form` differs, and why.
"""

import functools
import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
PERIOD = re.compile(r"\.(?!\d)")
COMMA_OF_NUMBER = re.compile(r"\d,\d")
NUMBERS = dict(
    zip("none zero one two three four five six seven eight nine ten".split(), "0 0 1 2 3 4 5 6 7 8 9 10".split())
)
ARTICLES = {"a", "an", "the"}
# The contractions that the evaluation knows. Each is found without one of its apostrophes.
CONTRACTIONS = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've""".split()
REPAIRED = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTIONS
    for place, letter in enumerate(word)
    if letter == "'" and word[:place] + word[place + 1 :] not in CONTRACTIONS
}


@functools.lru_cache(maxsize=2**16)
def official_form(text):
    """The form of a text, which nothing but case, punctuation, articles, number words and apostrophes make differ."""
    text = without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(REPAIRED.get(word, word) for word in words if word not in ARTICLES)


def without_punctuation(text):
    has_number, found = COMMA_OF_NUMBER.search(text) is not None, text
    for sign in PUNCTUATION:
        beside_space = f"{sign} " in text or f" {sign}" in text
        found = found.replace(sign, "" if beside_space or has_number else " ")
    return PERIOD.sub("", found)
