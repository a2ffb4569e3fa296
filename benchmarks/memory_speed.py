"""What a memory of answered questions costs in speed: questions/s with and without, in one process, in turn.

python benchmarks/memory_speed.py --output docs/results/memory_speed.md [--sizes 3000 100000] [--rounds 9]

Half an hour and 3 GiB on one core. Weights and examples are random, which doesn't change the speed. A ratio is that of
two calls right after each other; the median of many is what a busy neighbour changes least.
"""

import functools
import sys
from pathlib import Path
from statistics import median

import torch
from inference_models import dual, inputs
from measure import processor_name, timed
from pages import ROOT, build_parser, command, table, write_page

sys.path.insert(0, str(ROOT))
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.memory_examples_dualvqa import Examples

BATCHES = (1, 8, 32)


def random_memory(model, count):
    """A memory of as many examples, each about one of half as many images."""
    images = max(1, count // 2)
    examples = Examples(
        questions=torch.randn(count, model.text_encoder.hidden_size),
        images=torch.randn(images, model.vision_encoder.hidden_size),
        image_index=torch.arange(count) % images,
        answers=torch.arange(count) % 2,
        types=torch.arange(count) // 2 % 2,
    )
    return Memory.of(model, examples)


def answer(model, memory, batch):
    model.memory = memory
    model(**batch)


def ratios(model, memories, batches, rounds):
    """(batch, examples) -> for each round the seconds without a memory by those with it; and the seconds without."""
    found, seconds = {}, {size: [] for size in batches}
    for size in batches:
        batch = inputs(224, size)
        calls = {count: functools.partial(answer, model, memory, batch) for count, memory in memories.items()}
        without = functools.partial(answer, model, None, batch)
        for number in range(rounds + 1):
            for count, call in calls.items():
                times = [timed(without), timed(call), timed(without)]
                if number:  # the first round fills caches
                    found.setdefault((size, count), []).append((times[0] + times[2]) / 2 / times[1])
                    seconds[size] += [times[0], times[2]]
    return found, {size: median(times) for size, times in seconds.items()}


def page(args, found, seconds):
    rows = []
    for size in args.batches:
        cells = []
        for count in args.sizes:
            middle = sorted(found[size, count])
            quarter = len(middle) // 4
            cells.append(f"{median(middle):.3f} ({middle[quarter]:.3f} to {middle[-1 - quarter]:.3f})")
        rows.append([size, f"{1000 * seconds[size]:.1f}", f"{size / seconds[size]:.1f}", *cells])
    head = ["batch", "ms without", "questions/s without", *(f"with {count:,} examples" for count in args.sizes)]
    return (
        f"# Speed with a memory\n\nWritten by\n\n```bash\n{command()}\n```\n\n"
        f"{processor_name()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}. Questions per second "
        f"with a memory by those without: median of {args.rounds} rounds, the middle half in brackets; each is of "
        f"calls right after each other. MobileNetV3-Small at 224 pixels, DistilBERT with 12 tokens, cross-attention, "
        f"each question about an image of its own; exact search over keys of 768 and 576 values in "
        f"float32, of more than 20,000 examples over 256 and 128 principal components of them.\n\n"
        f"{table(head, rows)}"
    )


def main(argv=None):
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3000, 100_000], help="examples of the memories")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)
    model = dual()
    with torch.inference_mode():
        memories = {count: random_memory(model, count) for count in args.sizes}
        text = page(args, *ratios(model, memories, args.batches, args.rounds))
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
