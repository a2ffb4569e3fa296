"""An index of a very large memory (faiss): which examples are worth comparing with a question, without looking at all.

Inverted lists around centroids, as Johnson et al. 2017 (Billion-scale similarity search with GPUs, section 2).
"""

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)

INDEXED = 200_000  # examples from which on comparing with all of them takes longer than the rest of the model
IMAGE_SHARE = 0.3  # of an image's key beside a question's, where the lists are made: about what it counts for
LISTS_VISITED = 32
POINTS_OF_A_LIST, ROUNDS = 40, 5  # of k-means, which finds the centroids
AT_A_TIME = 2**16  # examples that are read into the index

WITHOUT = (
    "each question is compared with all {count:,} examples of the memory, which takes up to {ms:.0f} ms on one core; "
    "the package faiss-cpu finds those that are most like it in a fraction of that: pip install 'dualvqa[memory]'"
)


def faiss_for(memory):
    """The library where it makes a search faster, or None: a small memory, one on a GPU, or it isn't installed."""
    if len(memory) <= INDEXED or memory.question_keys.device.type != "cpu":
        return None
    try:
        import faiss
    except ImportError:
        logger.warning_once(WITHOUT.format(count=len(memory), ms=len(memory) / 4000))
        return None
    return faiss


class MemoryIndex:
    """The examples of a memory by their question's and their image's key; it is made when a question is first asked.

    Args:
        faiss: the library.
        memory: a [`Memory`] on the CPU.
    """

    def __init__(self, faiss, memory):
        count, width = len(memory), memory.question_keys.shape[1] + memory.image_keys.shape[1]
        logger.warning_once(f"the index of the memory's {count:,} examples is made, once; this may take a minute")
        lists = max(1, min(int(2 * count**0.5), count // POINTS_OF_A_LIST))
        self.index = faiss.index_factory(width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        self.index.cp.niter, self.index.cp.min_points_per_centroid = ROUNDS, 1
        self.index.nprobe = LISTS_VISITED
        some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: POINTS_OF_A_LIST * lists]
        self.index.train(self.vectors(memory, some))
        for numbers in torch.arange(count).split(AT_A_TIME):
            self.index.add(self.vectors(memory, numbers))
        self.by_image = memory.image_index.argsort(stable=True)  # examples, image by image
        self.ends = torch.bincount(memory.image_index, minlength=len(memory.image_keys)).cumsum(0)

    def vectors(self, memory, numbers):
        """(n, K) of some examples."""
        images = IMAGE_SHARE * memory.image_keys[memory.image_index[numbers]]
        return torch.cat([memory.question_keys[numbers], images], dim=1).numpy()

    def candidates(self, questions, images, same, settings):
        """For each question (C,) numbers of examples, in order: those that are most like it as far as the index knows,
        and all about the same image.

        Args:
            questions, images: (B, K) unit vectors.
            same: for each question a tensor with the numbers of the images that are its own.
            settings: of the memory.
        """
        vectors = torch.cat([questions, settings["image_weight"] / IMAGE_SHARE * images], dim=1)
        _, found = self.index.search(vectors.detach().numpy(), 2 * settings["neighbours"])
        first = torch.arange(min(settings["neighbours"], len(self.by_image)))  # where the lists have too few
        for numbers, own in zip(torch.from_numpy(found), same):
            starts = torch.where(own > 0, self.ends[own - 1], 0).tolist()
            about = [self.by_image[start:end] for start, end in zip(starts, self.ends[own].tolist())]
            yield torch.cat([first, numbers[numbers >= 0], *about]).unique()
