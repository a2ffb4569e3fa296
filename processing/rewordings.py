"""Which questions about one image ask the same thing in other words."""

import json
import unicodedata
from collections import defaultdict

import numpy as np
from scipy.sparse.csgraph import connected_components

# What it joins and misses on VQA-RAD is measured by benchmarks/rewordings.py.
NEAR = 0.35
# Of straight quotation marks some are feet and inches.
OPENING, CLOSING = "‘“„«([{¿¡", "’”“»)]}?!.,;:…。，？！、：；"
MARKS = ("phrase_type", ("para", "frame"))  # VQA-RAD's column, and its values that say: a rewording of another


def question_groups(rows, column=None):
    """For each row the name of what it asks: rewordings of a question about the same image have one name.

    Two questions about the same image are rewordings of each other where the cosine of their TF-IDF vectors, over the
    runs of three to five characters in their words, is at least `NEAR`; so are those that a third one is near to both.
    Where `phrase_type` marks a question as a rewording, it also joins the nearest other one, however far that is.

    Args:
        rows: columns `image_key` and `question`, as a Dataset or a dict of lists; also `column` or `phrase_type`.
        column: one whose equal values say, in place of all this, which questions about an image are the same.

    Returns:
        A list of strings, which don't depend on the order of the rows.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # a second, which asking a model doesn't need

    images, words = rows["image_key"][:], list(map(wording, rows["question"][:]))
    if column is not None:
        named = zip(images, words, rows[column][:])
        return [
            named_group(image, "wording", text) if gap(value) else named_group(image, "column", value)
            for image, text, value in named
        ]
    columns = getattr(rows, "column_names", rows)
    marks = rows[MARKS[0]][:] if MARKS[0] in columns else [None] * len(words)
    asked = defaultdict(dict)  # image -> wording -> whether it is marked
    for image, text, mark in zip(images, words, marks):
        asked[image][text] = asked[image].get(text, True) and mark in MARKS[1]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), lowercase=False)
    several = {image: sorted(texts) for image, texts in asked.items() if len(texts) > 1}
    different = sorted({text for texts in several.values() for text in texts})
    names = {}
    if different:
        vectors, place = vectorizer.fit_transform(different), {text: n for n, text in enumerate(different)}
        for image, texts in several.items():
            own = vectors[[place[text] for text in texts]]
            groups = joined((own @ own.T).toarray(), np.array([asked[image][text] for text in texts]))
            firsts = {group: text for text, group in reversed(list(zip(texts, groups)))}
            names.update({(image, text): firsts[group] for text, group in zip(texts, groups)})
    return [named_group(image, "wording", names.get((image, text), text)) for image, text in zip(images, words)]


def named_group(image, told_by, value):
    """A name that no other image, and no value of another kind, has."""
    return json.dumps([image, told_by, str(value)], ensure_ascii=False)


def gap(value):
    return value is None or value == ""


def joined(similarities, marked):
    """(n,) the number of each question's group, from (n, n) similarities and (n,) whether it is a rewording."""
    near = similarities >= NEAR
    others = similarities - 2 * np.eye(len(similarities))
    nearest = others.argmax(axis=1)
    rows = np.flatnonzero(marked & (others.max(axis=1) > 0))
    near[rows, nearest[rows]] = True
    return connected_components(near, directed=False)[1]


def wording(question):
    """A question without what isn't wording: case, white space, and the marks around its words; as it is without words.

    Other signs are kept: "< 5 cm" is not "> 5 cm".
    """
    words = unicodedata.normalize("NFC", question).casefold().split()
    return " ".join(filter(None, (word.lstrip(OPENING).rstrip(CLOSING) for word in words))) or question
