"""Peak memory of training on a streamed data set, at 20,000 and at 200,000 questions: it should be the same.

python benchmarks/streaming_memory.py [--sizes 20000 200000] [--output docs/results/streaming_memory.md]

Makes Parquet files of random images, ten questions about each, and trains a tiny model on each size for one epoch, in
a process of its own. Reading, decoding, shuffling, vocabulary and logs are those of any run, only the towers are small.
"""

import argparse
import io
import json
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from pages import ROOT, build_parser, command, run_alone, table, write_page
from PIL import Image

ROWS_PER_FILE, PER_IMAGE, SIDE = 10_000, 10, 96
COLORS = ["red", "green", "blue", "black"]


def write_shards(folder, questions):
    """Parquet files of `questions` rows with noisy images, so that their bytes can't be compressed away."""
    generator = np.random.default_rng(0)
    for start in range(0, questions, ROWS_PER_FILE):
        table = {"image": [], "question": [], "answer": []}
        for number in range(start, min(start + ROWS_PER_FILE, questions), PER_IMAGE):
            content = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(content, "jpeg")
            for place in range(PER_IMAGE):
                color = COLORS[(number + place) % 4]
                table["image"].append({"bytes": content.getvalue(), "path": None})
                table["question"].append(f"is number {number} {color}?" if place % 2 else f"what is in place {place}?")
                table["answer"].append("yes" if place % 4 == 1 else "no" if place % 2 else color)
        file = folder / f"train-{start // ROWS_PER_FILE:04d}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(table), file, row_group_size=500)


def train(folder):
    """One epoch on the shards, in this process; prints its peak resident memory in MiB and its questions per second."""
    sys.path.insert(0, str(ROOT))
    from dualvqa.run import main as run_vqa

    run_vqa.main(
        [
            *(
                "--do_train",
                "--streaming",
                "--train_file",
                f"{folder}/train-*.parquet",
                "--output_dir",
                f"{folder}/run",
            ),
            *"--image_size 32 --num_train_epochs 1 --per_device_train_batch_size 64 --logging_steps 10".split(),
            *"--use_cpu --disable_tqdm true --report_to none --save_strategy no --color_jitter 0".split(),
            *"--random_crop_scale 1 --tokenizer_vocab_size 500 --config freeze_vision=true".split(),
            *"fusion_hidden_size=16 fusion_num_attention_heads=2 text_config.dim=16 text_config.hidden_dim=32".split(),
            *"text_config.n_layers=1 text_config.n_heads=2".split(),
        ]
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    state = json.loads(Path(folder, "run/trainer_state.json").read_text())
    speed = [entry["questions_per_second"] for entry in state["log_history"] if "questions_per_second" in entry]
    print(json.dumps({"peak": peak, "speed": sum(speed) / len(speed)}))


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        return train(args.train)
    rows = []
    first = None
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_shards(Path(folder), size)
            data = sum(file.stat().st_size for file in Path(folder).glob("*.parquet")) / 2**20
            found = run_alone("--train", folder)
        first = first or found["peak"]
        ratio = f"{found['peak'] / first:.3f}"
        cells = [f"{size:,}", f"{size // PER_IMAGE:,}", f"{data:,.0f}", f"{found['peak']:,.0f}"]
        rows.append([*cells, ratio, f"{found['speed']:,.0f}"])
    text = table(["questions", "images", "data, MiB", "peak memory, MiB", "of the first", "questions/s"], rows)
    text += f"\n{os.cpu_count()} cores ({platform.machine()}), one process without workers.\n"
    print(text)
    if args.output:
        write_page(args.output, f"# Memory of streamed training\n\n```bash\n{command()}\n```\n\n{text}")


if __name__ == "__main__":
    main()
