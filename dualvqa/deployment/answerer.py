"""Saved and exported folders behind one callable: a batch of columns in, a batch of columns out."""

import os

import dualvqa_light
from dualvqa_light.folder import MANIFEST


def open_pipeline(folder, threads=None, **options):
    """The pipeline that answers from a folder.

    Args:
        folder: a saved model or its id on the Hub, which PyTorch computes; or what `dualvqa export` wrote.
        threads: how many a computation takes; of PyTorch, each of this process; left to the library when left out.
        options: of the one that it is, such as `image_sources` and `embedding_cache_mib`, which both have.
    """
    if os.path.isfile(os.path.join(folder, MANIFEST)):
        return dualvqa_light.LightPipeline(folder, threads=threads, **options)
    import torch  # which an exported folder needs nothing of

    from dualvqa.training.building import load_model
    from modeling_dualvqa import DualVQAPipeline

    if threads is not None:
        torch.set_num_threads(threads)
    model, processor = load_model(folder)
    return DualVQAPipeline(model, processor, **options)


class Answerer(dualvqa_light.Answerer):
    """As [`dualvqa_light.Answerer`], and for saved folders too: the same columns, computed by PyTorch.

    ```python
    answer = Answerer("runs/mine")
    answer({"image": ["a.png", "b.png"], "question": ["is it red?", "what is it?"]})
    ```
    """

    def open(self, folder, **pipeline):
        return open_pipeline(folder, **pipeline)
