"""What a batch of 320 questions costs before it reaches the model, on easy-VQA: python benchmarks/collator.py

Medians of milliseconds, one thread. The images are decoded anew, or read from a cache that was filled before.
"""

import argparse
import statistics
import tempfile
import time

import torch

from dualvqa.training.image_cache import cache_images
from processing import (
    AugmentationArguments,
    DataArguments,
    DualVQAImageProcessor,
    DualVQAProcessor,
    VQACollator,
    build_augmentation,
    prepare_datasets,
    train_tokenizer,
)

QUESTIONS, BATCHES, SIZE = 320, 15, 128


def batch_time(collator, rows):
    """Median of milliseconds for a batch; row numbers are the same for every collator."""
    generator = torch.Generator().manual_seed(0)
    times = []
    for _ in range(BATCHES):
        batch = [rows[row] for row in torch.randperm(len(rows), generator=generator)[:QUESTIONS].tolist()]
        start = time.perf_counter()
        collator(batch)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    parts, _, _ = prepare_datasets(DataArguments(dataset_name="easy_vqa"))
    rows = parts["train"]
    image_processor = DualVQAImageProcessor(size={"height": SIZE, "width": SIZE})
    processor = DualVQAProcessor(image_processor, train_tokenizer(rows["question"]), ["circle"])
    for name, augmentation in {"plain": None, "augmented": build_augmentation(AugmentationArguments())}.items():
        collator = VQACollator(processor, augmentation)
        decoded = batch_time(collator, rows)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            cache_images(rows, collator, folder)
            filled = time.perf_counter() - start
            kept = batch_time(collator, rows)
        ratio = f"{decoded / kept:.1f} times, filled in {filled:.1f} s"
        print(f"{name}: decoded {decoded:.0f} ms, kept {kept:.0f} ms: {ratio}")


if __name__ == "__main__":
    main()
