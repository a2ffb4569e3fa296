"""Which words of a question would change an answer: some are left out, and the model is asked again."""

import re

import numpy as np

SIGNS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # of Chinese and Japanese, which are written without spaces
WORD = re.compile(rf"[{SIGNS}]|(?:[^\W{SIGNS}])+|[^\w\s]")

SUBSETS, LEFT_OUT = 64, 0.3
MOST_WORDS = 600  # more than a text tower of 512 tokens reads: each takes a question of its own
ONE_WORD = "expected a question of two words or more, found {!r}: without its only word there is no question"


def find_words(question):
    """(start, end) of each word and punctuation mark."""
    return [found.span() for found in WORD.finditer(question)]


def without(question, words, left_out):
    """The question without some of its words.

    Args:
        words: of `find_words`.
        left_out: numbers of those that go.
    """
    kept, end = [], 0
    for number in sorted(left_out):
        start, stop = words[number]
        kept.append(question[end:start])
        end = stop
    return " ".join("".join([*kept, question[end:]]).split())


def leave_one_out(scores, question):
    """What the score loses when a word is left out (Li et al. 2016): see `leave_some_out`."""
    words = find_words(question)
    if len(words) < 2:
        raise ValueError(ONE_WORD.format(question))
    found = scores([question, *(without(question, words, [number]) for number in range(len(words)))])
    return [question[slice(*word)] for word in words], found[0] - found[1:]


def leave_some_out(scores, question, seed=0, read=None):
    """What the score loses when a word is left out together with others, by least squares.

    Words that say the same don't hide one another then, as they do when they are left out one by one. The score is
    taken for a sum over the words that are kept, as LIME does (Ribeiro et al. 2016), here with equal weights.

    Args:
        scores: a function of a list of questions that gives their scores (n,), in any unit.
        question: of two words or more; a punctuation mark is one.
        seed: of which words are left out, where not all of the ways are tried.
        read: (start, end) of the part of the question that the model reads; all of it when left out. The words beyond
            it are in no question that is asked, so that none of them moves up to the place of one that is left out.

    Returns:
        The words, and (n,) what each adds to the score: positive for a word that speaks for the answer, 0 for one that
        isn't read.

    Raises:
        ValueError: the model reads one word, without which there is no question, or more than `MOST_WORDS`.
    """
    words = find_words(question)
    start, end = read or (0, len(question))
    places = [number for number, (left, right) in enumerate(words) if left < end and right > start]
    if len(places) == len(words):
        return score_words(scores, question, seed)
    start, end = (words[places[0]][0], words[places[-1]][1]) if places else (0, 0)
    found = np.zeros(len(words))
    found[places] = score_words(scores, question[start:end], seed)[1]
    return [question[slice(*word)] for word in words], found


def score_words(scores, question, seed):
    """`leave_some_out` of a question that is read whole."""
    words = find_words(question)
    if len(words) < 2:
        raise ValueError(ONE_WORD.format(question))
    if len(words) > MOST_WORDS:
        raise ValueError(f"expected a question of at most {MOST_WORDS} words to score, found {len(words):,}")
    kept = kept_words(len(words), np.random.default_rng(seed))  # (n, words)
    asked = [without(question, words, np.flatnonzero(~row)) for row in kept]
    different = list(dict.fromkeys(asked))
    score_of = dict(zip(different, scores(different)))
    terms = np.concatenate([kept, np.ones((len(kept), 1))], axis=1)  # and a constant
    found = np.linalg.lstsq(terms, np.array([score_of[one] for one in asked]), rcond=None)[0]
    return [question[slice(*word)] for word in words], found[:-1]


METHODS = {"leave_some_out": leave_some_out, "leave_one_out": leave_one_out}


def kept_words(count, chance):
    """(n, count), true where a question keeps a word: all ways if these are few, and never none of the words.

    Of many words, `SUBSETS` questions keep each word with `1 - LEFT_OUT`, and another leaves out each word alone: then
    every word is left out at least once.
    """
    if 2**count <= SUBSETS:
        numbers = np.arange(1, 2**count)
        return (numbers[:, None] >> np.arange(count) & 1).astype(bool)
    kept = np.concatenate([chance.random((SUBSETS, count)) >= LEFT_OUT, ~np.eye(count, dtype=bool)])
    return kept[kept.any(axis=1)]
