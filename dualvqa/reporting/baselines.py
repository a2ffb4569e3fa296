"""What is reached without looking at the image, or by copying: answers from the training questions alone."""

from collections import Counter, defaultdict

from sklearn.feature_extraction.text import TfidfVectorizer

from processing.answers import Writings, as_list
from processing.metrics import majority_answers
from processing.processing_dualvqa import BINARY_ANSWERS
from processing.vqa_accuracy.rules import ENGLISH

BLOCK = 2**23  # similarities in memory at a time
TIE = 1e-9  # similarities that differ by less are those of equally similar questions


class QuestionCopier:
    """Answers a question as the most similar training question was answered: TF-IDF over words, cosine.

    Where several are equally similar, the same wording among them, the most frequent of their answers; where no word is
    known they all are, and it is the most frequent answer of all.

    Args:
        questions: the training questions.
        answers: their normalised answers.
        vectorizer: knows how rare words are; learned from the questions when left out.
    """

    def __init__(self, questions, answers, vectorizer=None):
        found = defaultdict(Counter)
        for question, answer in zip(questions, answers):
            found[question][answer] += 1
        self.answers = list(found.values())
        # Single letters, digits and signs are words too: "is it a 2 or a 3?"
        self.vectorizer = vectorizer or TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]").fit(found)
        self.vectors = self.vectorizer.transform(found)  # (different training questions, words)

    def __call__(self, questions):
        different = list(dict.fromkeys(questions))
        copied, step = {}, max(1, BLOCK // len(self.answers))
        for start in range(0, len(different), step):
            asked = different[start : start + step]
            similarities = (self.vectorizer.transform(asked) @ self.vectors.T).toarray()
            for question, row in zip(asked, similarities):
                counts = Counter()
                for index in (row >= row.max() - TIE).nonzero()[0]:
                    counts.update(self.answers[index])
                copied[question] = counts.most_common(1)[0][0]
        return [copied[question] for question in questions]


def baseline_answers(train, results, rules=ENGLISH):
    """The answers of the baselines, as they are written: name -> for each result a string, or None where it has none.

    `majority` knows the true question type, as `oracle` does: the most frequent training answer of that type.
    `copied` doesn't: see [`QuestionCopier`], over all training questions. `copied_same_image` chooses among the
    training questions about the same image, and has no answer where there is none: it is leakage, made visible.

    Args:
        train: canonical training Dataset.
        results: see `results`.
        rules: how answers are compared, [`AnswerRules`].
    """
    answers = list(map(rules.consensus, train["answer"][:]))
    questions, images = train["question"][:], train["image_key"][:]
    copier = QuestionCopier(questions, answers)
    found = {
        "majority": most_frequent(majority_answers(answers), results),
        "copied": copier([result["question"] for result in results]),
    }
    about = defaultdict(list)
    for image, question, answer in zip(images, questions, answers):
        about[image].append((question, answer))
    asked = defaultdict(list)
    for index, result in enumerate(results):
        if result["image"] in about:
            asked[result["image"]].append(index)
    if asked:
        same = [None] * len(results)
        for image, indices in asked.items():
            own = QuestionCopier(*zip(*about[image]), copier.vectorizer)
            for index, copy in zip(indices, own([results[index]["question"] for index in indices])):
                same[index] = copy
        found["copied_same_image"] = same
    writings = Writings(rules)
    for people in train["answer"][:]:
        writings.add_all(as_list(people))
    written = {**writings.commonest(), **dict(zip(BINARY_ANSWERS, rules.shown)), None: None}
    return {name: [written.get(form, form) for form in forms] for name, forms in found.items()}


def most_frequent(majority, results):
    """For each result the most frequent training answer of its true question type.

    Args:
        majority: question type -> answer.
        results: see `results`.
    """
    return [majority.get(result["type"], "") for result in results]
