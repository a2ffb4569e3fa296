"""The two steps of answering, alike for every pipeline: each row is read by itself, then all of them are answered.

Between the steps a row that can't be read is left out, and others are put beside it.
"""

from .pipeline import Options


class Steps:
    """
    Args:
        pipe: a [`LightPipeline`], or a pipeline of transformers with its methods.

    Both methods take the options of a call, a dict: `top_k`, `question_type`, `abstain`, `truncation`, `timeout`.
    Threads may read at once.
    """

    def __init__(self, pipe):
        self.pipe, self.light = pipe, not hasattr(pipe, "preprocess")

    def read(self, row, options):
        """A dict with `image`, and `question` or a list of some in it -> what `answer` takes.

        Raises:
            ValueError: the image can't be opened, or a question can't be asked.
        """
        if self.light:
            return self.pipe.read(row, Options.of(options))
        before, _, _ = self.pipe._sanitize_parameters(**options)
        return self.pipe.preprocess(row, **before)

    def answer(self, items, options):
        """The answers to each of some items of `read`, computed together; as the pipeline gives them.

        Raises:
            ValueError: an option that can't be followed, or logits that aren't finite.
        """
        if self.light:
            return self.pipe.answer(items, Options.of(options))
        _, forward, after = self.pipe._sanitize_parameters(**options)
        return self.pipe.postprocess(self.pipe.forward(self.pipe.collate(items), **forward), **after)

    def answer_each(self, items, options):
        """The same, where one that fails has its ValueError in its place and the others have their answers."""
        try:
            return self.answer(items, options) if items else []
        except ValueError as error:
            if len(items) == 1:
                return [error]
            return [found for item in items for found in self.answer_each([item], options)]

    def answer_rows(self, rows, options):
        """The answers to each row, or its ValueError: both steps."""
        read = [attempt(self.read, row, options) for row in rows]
        good = [item for item in read if not isinstance(item, ValueError)]
        answers = iter(self.answer_each(good, options))
        return [item if isinstance(item, ValueError) else next(answers) for item in read]


def attempt(function, *arguments):
    """What a function returns, or the ValueError that it raises."""
    try:
        return function(*arguments)
    except ValueError as error:
        return error
