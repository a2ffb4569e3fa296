"""The order of training rows. Seed and epoch alone fix it: neither the number of processes nor a resumed run do."""

from collections import Counter, defaultdict

import torch
from torch.utils.data import Dataset, Sampler, WeightedRandomSampler

IGNORE_INDEX = -100
MEGABATCH = 50  # batches whose questions are sorted by length, as many as transformers takes
CHUNK = 1000  # questions that are tokenised at a time: all at once would be hundreds of megabytes


class ImageGroupedSampler(Sampler):
    """Row numbers in random order, up to `per_image` questions about one image at a time.

    Args:
        image_keys: the image of each row.
        per_image: how many rows of one image stay together.
        seed: with the epoch it fixes the order.
        multiple: the rows are filled up to a multiple of it with repeats, which have the number -1 - row. Where
            several processes share an epoch, all need a batch in every step.
        by_length: a [`ByLength`], for questions of like length to come together.
        weights: how likely each row is drawn, in any unit. With them an epoch has as many rows as there are, drawn with
            replacement before they are brought together by image; without them it has each row once.
    """

    def __init__(self, image_keys, per_image, seed, multiple=1, by_length=None, weights=None):
        self.by_length, self.weights = by_length, weights
        self.per_image, self.seed, self.epoch = per_image, seed, 0
        places = {}
        self.images = [places.setdefault(key, len(places)) for key in image_keys]
        self.repeats = -len(self.images) % multiple
        self.length = len(self.images) + self.repeats

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = range(len(self.images))
        if self.weights is not None:
            drawn = list(WeightedRandomSampler(self.weights, len(drawn), generator=generator))
        by_image, groups = defaultdict(list), []
        for row in drawn:
            by_image[self.images[row]].append(row)
        for rows in by_image.values():
            order = torch.randperm(len(rows), generator=generator).tolist()
            shuffled = [rows[place] for place in order]
            groups += [shuffled[start : start + self.per_image] for start in range(0, len(rows), self.per_image)]
        groups = [groups[place] for place in torch.randperm(len(groups), generator=generator).tolist()]
        if self.by_length is not None:
            groups = self.by_length(groups, generator)
        order = [row for rows in groups for row in rows]
        yield from order
        for place in range(self.repeats):
            yield -1 - order[place % len(order)]


class ByLength:
    """Puts questions of like length together: in every `MEGABATCH` batches the images are sorted by their longest
    question, then the batches are shuffled.

    Args:
        lengths: tokens of each row's question.
        batch: rows of a batch, of all processes together.
    """

    def __init__(self, lengths, batch):
        self.lengths, self.batch = lengths, batch

    def __call__(self, groups, generator):
        """Batches of like lengths in random order, an incomplete one last, of groups of rows."""
        rows, megabatch, size = [], [], 0
        for number, group in enumerate(groups, 1):
            megabatch.append(group)
            size += len(group)
            if size >= MEGABATCH * self.batch or number == len(groups):
                megabatch.sort(key=lambda group: max(self.lengths[row] for row in group))
                rows += [row for group in megabatch for row in group]
                megabatch, size = [], 0
        batches = [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        complete = len(rows) // self.batch
        order = torch.randperm(complete, generator=generator).tolist()
        return [batches[place] for place in order] + batches[complete:]


def balanced_weights(answers, power):
    """How likely each row is drawn, so that an answer with n rows comes in proportion to n^(1 - power).

    1 is every answer equally often, 1/2 the square root of its frequency (Mikolov et al. 2013, "Distributed
    Representations of Words and Phrases and their Compositionality"; Mahajan et al. 2018, "Exploring the Limits of
    Weakly Supervised Pretraining"), 0 as often as it is.

    Args:
        answers: a pair (group, answer) for each row. Each group keeps its share of the rows.

    Returns:
        (rows,) float64 tensor, 1 on average in each group.
    """
    counts = Counter(answers)
    groups, totals = Counter(group for group, _ in answers), Counter()
    for (group, _), count in counts.items():
        totals[group] += count ** (1 - power)
    weight = {pair: count**-power * groups[pair[0]] / totals[pair[0]] for pair, count in counts.items()}
    return torch.tensor([weight[pair] for pair in answers], dtype=torch.float64)


def evaluation_order(image_keys, lengths):
    """Row numbers with questions about one image together, by length in it, and images by their longest question.

    The longest come first: what memory can't hold fails at once.
    """
    longest = defaultdict(int)
    for key, length in zip(image_keys, lengths):
        longest[key] = max(longest[key], length)
    return sorted(range(len(image_keys)), key=lambda row: (-longest[image_keys[row]], image_keys[row], -lengths[row]))


def question_lengths(questions, tokenizer):
    """Tokens of each question, as many as are kept of it. Each different question is tokenised once."""
    different = list(dict.fromkeys(questions))
    known = {}
    for start in range(0, len(different), CHUNK):
        chunk = different[start : start + CHUNK]
        known |= zip(chunk, map(len, tokenizer(chunk, truncation=True)["input_ids"]))
    return [known[question] for question in questions]


class MarkedRows(Dataset):
    """The rows of a dataset as pairs (row, whether it is a repeat): see [`ImageGroupedSampler`]."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, numbers):
        places = [number if number >= 0 else -1 - number for number in numbers]
        rows = self.rows.__getitems__(places) if hasattr(self.rows, "__getitems__") else [self.rows[p] for p in places]
        return [(row, number < 0) for row, number in zip(rows, numbers)]

    def __getitem__(self, number):
        return self.__getitems__([number])[0]


class RepeatMaskingCollator:
    """Makes a batch of [`MarkedRows`], in which repeats have no labels and so no part in loss and counts."""

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, marked):
        batch = self.collator([row for row, _ in marked])
        repeats = torch.tensor([repeat for _, repeat in marked])
        if repeats.any():
            for name in [name for name in batch if name.endswith("_labels")]:
                batch[name] = batch[name].clone()
                batch[name][repeats] = IGNORE_INDEX  # (B,) or (B, K)
        return batch
