"""Peak memory of prediction, at 10,000 and at 100,000 questions, ten about each image: it should be the same.

python benchmarks/prediction_memory.py [--sizes 10000 100000] [--output docs/results/prediction_memory.md]

Makes images and a file of questions without answers, and predicts each size in a process of its own, with a model of
random weights and 1,000 answers. Reading, decoding, ranking and writing are those of any run, the towers are small.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from pages import ROOT, build_parser, command, run_alone, table, write_page
from PIL import Image

PER_IMAGE, SIDE, ANSWERS = 10, 96, 1000


def write_questions(folder, count):
    """Noisy images, so that each is a different one, and test.jsonl with ten questions about each."""
    generator = np.random.default_rng(0)
    with open(folder / "test.jsonl", "w", encoding="utf-8") as file:
        for number in range(count // PER_IMAGE):
            pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
            for place in range(PER_IMAGE):
                row = {"image": f"{number}.jpg", "question": f"what is in place {place} of number {number}?"}
                file.write(json.dumps(row) + "\n")


def save_model(folder):
    sys.path.insert(0, str(ROOT))
    from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
    from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

    tokenizer = train_tokenizer([f"what is in place {n} of number {n}?" for n in range(1000)], 500, 32)
    text = {"model_type": "distilbert", "vocab_size": len(tokenizer), "dim": 16, "hidden_dim": 32, "n_layers": 1}
    config = DualVQAConfig(
        vision_config={"image_size": 32},
        text_config={**text, "n_heads": 2, "pad_token_id": tokenizer.pad_token_id},
        num_answers=ANSWERS,
        fusion_hidden_size=16,
        fusion_num_attention_heads=2,
    )
    DualVQAForQuestionAnswering(config).save_pretrained(folder)
    image_processor = DualVQAImageProcessor(size={"height": 32, "width": 32})
    DualVQAProcessor(image_processor, tokenizer, [f"answer {n}" for n in range(ANSWERS)]).save_pretrained(folder)


def predict(folder):
    """Predicts in this process; prints its peak resident memory in MiB and its questions per second."""
    sys.path.insert(0, str(ROOT))
    from dualvqa.run import main as run_vqa

    run_vqa.main(
        [
            *("--do_predict", "--model_name_or_path", f"{folder}/model", "--test_file", f"{folder}/test.jsonl"),
            *("--image_dir", folder, "--output_dir", f"{folder}/run", "--per_device_eval_batch_size", "64"),
            *"--use_cpu --disable_tqdm true --report_to none".split(),
        ]
    )
    results = json.loads(Path(folder, "run/test_results.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak": peak, "speed": results["test_samples_per_second"]}))


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--predict", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.predict:
        return predict(args.predict)
    rows = []
    first = None
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_questions(Path(folder), size)
            save_model(f"{folder}/model")
            found = run_alone("--predict", folder)
        first = first or found["peak"]
        ratio = f"{found['peak'] / first:.3f}"
        rows.append([f"{size:,}", f"{size // PER_IMAGE:,}", f"{found['peak']:,.0f}", ratio, f"{found['speed']:,.0f}"])
    text = table(["questions", "images", "peak memory, MiB", "of the first", "questions/s"], rows)
    text += f"\n{ANSWERS:,} answers; {os.cpu_count()} cores ({platform.machine()}).\n"
    print(text)
    if args.output:
        write_page(args.output, f"# Memory of prediction\n\n```bash\n{command()}\n```\n\n{text}")


if __name__ == "__main__":
    main()
