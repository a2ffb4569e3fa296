"""What a memory of answered questions costs: questions/s with and without in turn, peak memory, and the index of a
very large one.

python benchmarks/memory_speed.py --output docs/results/memory_speed.md [--sizes 3000 100000] [--rounds 9]
    [--states runs/remembers --indexed 300000 1000000] [--no_onnx]

Half an hour and 6 GiB on one core. Weights and examples of the first two tables are random, which changes neither speed
nor size; what an index finds is looked at with states that lie as those of a trained model with a memory, --states. A
ratio is that of two calls right after each other; the median of many is what a busy neighbour changes least.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from inference_models import dual
from measure import processor_name, timed
from memory_forms import BATCH, Forms
from memory_search import ASKED, PER_IMAGE, search
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


def ratios(forms, batches, rounds):
    """(form, batch, examples) -> for each round the seconds without a memory by those with it; and (form, batch) ->
    the seconds without."""
    found, seconds = {}, {}
    for size in batches:
        for form, calls in forms.calls(size).items():
            for number in range(rounds + 1):
                for count in calls.keys() - {None}:
                    times = [timed(calls[None]), timed(calls[count]), timed(calls[None])]
                    if number:  # the first round fills caches
                        found.setdefault((form, size, count), []).append((times[0] + times[2]) / 2 / times[1])
                        seconds.setdefault((form, size), []).extend([times[0], times[2]])
    return found, {cell: median(times) for cell, times in seconds.items()}


def speed_table(args, found, seconds):
    rows = []
    for form, size in seconds:
        cells = []
        for count in args.sizes:
            middle = sorted(found[form, size, count])
            quarter = len(middle) // 4
            cells.append(f"{median(middle):.3f} ({middle[quarter]:.3f} to {middle[-1 - quarter]:.3f})")
        without = seconds[form, size]
        rows.append([form, size, f"{1000 * without:.1f}", f"{size / without:.1f}", *cells])
    head = ["form", "batch", "ms without", "questions/s without", *(f"with {count:,} examples" for count in args.sizes)]
    return table(head, rows)


def peak_table(args, peaks):
    rows = [
        [
            form,
            f"{found[None]:,.0f}",
            *(f"{found[count]:,.0f} (+{found[count] - found[None]:,.0f})" for count in args.sizes),
        ]
        for form, found in peaks.items()
    ]
    return table(["form", "MiB without", *(f"with {count:,} examples" for count in args.sizes)], rows)


def search_table(found):
    head = ["examples", "index made in", "ms one question: all", "index", "ms in batches of 32: all", "index"]
    head += ["of the 30 found", "of their weight", "the most similar"]
    rows = [
        [
            f"{count:,}",
            f"{one['build']:.0f} s",
            *(f"{1000 * one['seconds'][way, size]:.1f}" for size in (1, 32) for way in ("all", "index")),
            *(f"{one[name]:.1%}" for name in ("neighbours", "weight", "most similar")),
        ]
        for count, one in found.items()
    ]
    return table(head, rows)


def page(args, speed, peaks, searches):
    text = (
        f"# Speed with a memory\n\nWritten by\n\n```bash\n{command()}\n```\n\n"
        f"{processor_name()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}. Questions per second "
        f"with a memory by those without: median of {args.rounds} rounds, the middle half in brackets; each is of "
        f"calls right after each other. MobileNetV3-Small at 224 pixels, DistilBERT with 12 tokens, cross-attention, "
        f"each question about an image of its own; exact search over keys of 768 and 576 values in "
        f"float32, of more than 20,000 examples over 256 and 128 principal components of them. ONNX is fp32 on "
        f"onnxruntime.\n\n{speed}\n"
        f"Peak memory in MiB of a process that loads the model and answers {BATCH} questions, and what the memory adds:"
        f"\n\n{peaks}"
    )
    if searches:
        text += (
            f"\n## More than 200,000 examples\n\nThe search alone, PyTorch: a comparison with all examples, and with "
            f"those that an index of faiss proposes. States lie as those of the model in {args.states}: one of its own "
            f"and half of the difference of two others, {PER_IMAGE} questions an image. {ASKED} questions, a quarter "
            f"rewordings of one in the memory, a quarter other questions about its images, half about new images. The "
            f"last columns say how much of what the comparison with all finds the index finds too: of its 30 "
            f"neighbours, of their weight in the vote with the default parameters, and of the most similar ones.\n\n"
            f"{search_table(searches)}"
        )
    return text


def main(argv=None):
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3000, 100_000], help="examples of the memories")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--states", help="a saved model with a memory, for what an index finds")
    parser.add_argument("--indexed", type=int, nargs="+", default=[300_000, 1_000_000], help="examples made of them")
    parser.add_argument("--no_onnx", action="store_true", help="measure PyTorch alone")
    args = parser.parse_args(argv)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        memories = {count: random_memory(dual(), count) for count in args.sizes}
        forms = Forms(memories, folder, not args.no_onnx)
        speed, peaks = speed_table(args, *ratios(forms, args.batches, args.rounds)), peak_table(args, forms.peaks())
        del memories, forms
        searches = {}
        if args.states:
            from dualvqa.training.building import load_model

            model, _ = load_model(args.states)
            searches = {count: search(model.eval(), count) for count in args.indexed}
    text = page(args, speed, peaks, searches)
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
