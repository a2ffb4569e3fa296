"""Training and answering on a GPU, in each precision and compiled: questions per second and peak memory.

python benchmarks/gpu.py --output docs/results/gpu.md [--train "full, float32" ...] [--answer float32 ...]

Two to four minutes on one GPU. Images are noise and all weights random, which doesn't change the speed. --quick takes
tiny models and a few steps, to see that it runs, on a CPU too.
"""

import functools
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from alone import alone
from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from PIL import Image
from transformers import TrainerCallback

sys.path.insert(0, str(ROOT))

IMAGES, QUESTIONS, ANSWERS = 512, 8, 458  # of the training file: images, questions about each, different answers
COMMON = (
    "--do_train --do_eval false --do_predict false --eval_strategy no --save_strategy no --report_to none "
    "--report false --calibrate false --load_best_model_at_end false --early_stopping_patience 0 --disable_tqdm true "
    "--preset none --tokenizer_vocab_size 2000 --image_size 224 --max_question_length 32 "
    "--questions_per_image 4 --per_device_train_batch_size 128"
).split()
SAME_PIXELS = "--horizontal_flip 0 --random_rotation 0 --random_crop_scale 1 --color_jitter 0".split()
FROZEN = ["--config", "freeze_vision=true", "freeze_text=true"]
TRAINING = {
    "full, float32": SAME_PIXELS,
    "full, bfloat16": [*SAME_PIXELS, "--bf16"],
    "full, float16": [*SAME_PIXELS, "--fp16"],
    "full, bfloat16, compiled": [*SAME_PIXELS, "--bf16", "--torch_compile"],
    "full, bfloat16, augmented": ["--bf16"],
    "full, bfloat16, augmented by 8 workers": ["--bf16", "--dataloader_num_workers", "8"],
    "frozen towers, float32": [*SAME_PIXELS, *FROZEN],
    "frozen towers, bfloat16": [*SAME_PIXELS, *FROZEN, "--bf16"],
}
STEPS, WARM_UP = 70, 10
ANSWERING = {
    "float32": (torch.float32, False),
    "bfloat16": (torch.bfloat16, False),
    "float16": (torch.float16, False),
    "float16, compiled": (torch.float16, True),
}
BATCHES, TOKENS = (1, 32, 256), 16
QUICK = (
    "--image_size 32 --per_device_train_batch_size 8 --config fusion_hidden_size=16 fusion_num_attention_heads=2 "
    "text_config.dim=16 text_config.hidden_dim=32 text_config.n_layers=1 text_config.n_heads=2"
).split()
NOTE = """{machine}.

The design's model, MobileNetV3-Small and DistilBERT from random weights with {parameters:.1f} million parameters, on
{images} images of 224 pixels with {questions} questions each and {answers} answers.

## Training

`dualvqa train` in batches of 128 questions, four about an image, {steps} steps after {warm_up} for warming up. Images
are decoded once, and what *frozen towers* make of them is computed once. *First steps* are those
for warming up, in seconds: libraries are loaded and kernels chosen. Peak memory is what torch's allocator took.
"""
ANSWERS_NOTE = """
## Answering

*Model* is the forward pass alone, of {tokens} tokens and one image a question, both on the GPU already: questions per
second by batch size, the median call. *Pipeline* is all of it from decoded images and strings to answers, in one
process.
*Difference* is the largest one of a probability from that in float32.

"""


def on_gpu():
    return torch.cuda.is_available()


def synchronize():
    if on_gpu():
        torch.cuda.synchronize()


def peak():
    """GiB that torch's allocator has taken at most."""
    return torch.cuda.max_memory_allocated() / 2**30 if on_gpu() else 0.0


class Span(TrainerCallback):
    """Seconds from the end of the last step for warming up to the end of the last one."""

    def __init__(self, warm_up):
        self.warm_up = warm_up

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (self.warm_up, state.max_steps):
            synchronize()
            self.started = self.seconds if state.global_step == state.max_steps else 0.0
            self.seconds = time.perf_counter()


def write_data(folder, images, questions):
    """A training file of noise; every other question is a yes/no one."""
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(1500)]
    with open(folder / "train.jsonl", "w", encoding="utf-8") as file:
        for number in range(images):
            name = f"{number}.jpg"
            Image.fromarray(generator.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(folder / name)
            for place in range(questions):
                answer = ("no", "yes")[number % 2] if place % 2 else f"answer {generator.integers(ANSWERS)}"
                question = " ".join(generator.choice(words, int(generator.integers(4, 14)))) + "?"
                file.write(json.dumps({"image": name, "question": question, "answer": answer}) + "\n")


def train(flags, warm_up):
    """One training, in this process: questions per second, and the peak of memory."""
    from dualvqa.run import main as run_vqa
    from dualvqa.run.train import prepare_trainer

    span, seen = Span(warm_up), {}

    def add_span(run):
        run.trainer.add_callback(span)
        seen["batch"] = run.trainer.args.train_batch_size
        seen["parameters"] = run.trainer.model.num_parameters() / 1e6

    place = run_vqa.STAGES.index(prepare_trainer) + 1
    run_vqa.STAGES = (*run_vqa.STAGES[:place], add_span, *run_vqa.STAGES[place:])
    run_vqa.main(flags)
    steps = int(flags[flags.index("--max_steps") + 1]) - warm_up
    seconds = span.seconds - span.started
    return {
        "rate": steps * seen["batch"] / seconds,
        "first": span.started - span.began,
        "peak": peak(),
        "parameters": seen["parameters"],
    }


def build(quick):
    """The design's model with random weights, and a processor for it."""
    from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
    from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

    torch.manual_seed(0)
    small = {"fusion_hidden_size": 16, "fusion_num_attention_heads": 2}
    small["text_config"] = {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    model = DualVQAForQuestionAnswering(DualVQAConfig(num_answers=ANSWERS, **(small if quick else {}))).eval()
    tokenizer = train_tokenizer(["what is shown in this image, and where is it?"], 100, 64)
    answers = [f"answer {number}" for number in range(ANSWERS)]
    return model, DualVQAProcessor(DualVQAImageProcessor(), tokenizer, answers)


def inputs(batch, device, dtype):
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(5, 60, (batch, TOKENS), generator=generator)
    pixels = torch.randn(batch, 3, 224, 224, generator=generator)
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels.to(dtype)}
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def rate_of(call, questions, seconds):
    """Questions per second of the median call, in so many seconds of calls after three for warming up."""
    found = []
    for number in range(3 + 200):
        synchronize()
        started = time.perf_counter()
        call()
        synchronize()
        found.append(time.perf_counter() - started)
        if number > 3 and sum(found[3:]) > seconds:
            break
    return questions / median(found[3:])


@torch.inference_mode()
def answer(name, batches, seconds, quick):
    """Rates of the model and of the pipeline by batch size, the peak, and the difference from float32."""
    from dualvqa.deployment.optimize import optimize_for_inference
    from modeling_dualvqa.pipeline_dualvqa import DualVQAPipeline

    dtype, compiled = ANSWERING[name]
    device = "cuda" if on_gpu() else "cpu"
    exact, processor = build(quick)
    exact.to(device)
    model = build(quick)[0].to(device, dtype)
    if compiled:
        model = optimize_for_inference(model, compile=True)
    wanted = exact(**inputs(32, device, torch.float32)).open_ended_logits.float().softmax(-1)
    got = model(**inputs(32, device, dtype)).open_ended_logits.float().softmax(-1)
    del exact
    found = {"difference": (wanted - got).abs().max().item(), "model": {}, "pipeline": {}}
    for batch in batches:
        found["model"][str(batch)] = rate_of(functools.partial(model, **inputs(batch, device, dtype)), batch, seconds)
    found["peak"] = peak()
    pipe = DualVQAPipeline(model, processor, device=device)
    generator = np.random.default_rng(0)
    for batch in batches:
        pixels = generator.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        asked = [{"image": Image.fromarray(one), "question": "what is shown in this image?"} for one in pixels]
        found["pipeline"][str(batch)] = rate_of(functools.partial(pipe, asked, batch_size=batch), batch, seconds)
    return found


def safely(function, *arguments):
    """What a row gives, or the last line of its error: one that fails leaves the others."""
    try:
        return alone(function, *arguments)
    except (Exception, SystemExit) as error:
        print(f"{arguments[0]}: {type(error).__name__}: {error}", flush=True)
        return None


def train_row(args, name):
    """A row of the table of training, and the number of parameters in millions."""
    images, steps, warm_up = (16, 3, 1) if args.quick else (IMAGES, STEPS, WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), images, QUESTIONS)
        own = ["--train_file", f"{folder}/train.jsonl", "--image_dir", folder, "--output_dir", f"{folder}/run"]
        own += ["--max_steps", str(steps + warm_up), *([] if on_gpu() else ["--use_cpu"])]
        found = safely(train, [*COMMON, *own, *TRAINING[name], *(QUICK if args.quick else [])], warm_up)
    if not found:
        return [name, "failed", "", ""], 0.0
    return [name, f"{found['rate']:,.0f}", f"{found['first']:.1f}", f"{found['peak']:.2f}"], found["parameters"]


def answer_row(args, name, batches):
    """A row of the table of answering."""
    found = safely(answer, name, batches, 0.1 if args.quick else 2.0, args.quick)
    if not found:
        return [name, "failed"]
    rates = [f"{found[kind][str(batch)]:,.0f}" for kind in ("model", "pipeline") for batch in batches]
    return [name, *rates, f"{found['peak']:.2f}", f"{found['difference']:.1e}"]


def write(args, batches, trained, answered, parameters):
    """The page, of the rows that are there."""
    counts = {"images": IMAGES, "questions": QUESTIONS, "answers": ANSWERS, "steps": STEPS, "warm_up": WARM_UP}
    text = f"# On a GPU\n\nWritten by\n\n```bash\n{command()}\n```\n\n"
    text += NOTE.format(machine=machine(gpu=True), parameters=parameters, **counts)
    text += "\n" + table(["", "questions/s", "first steps, s", "peak memory, GiB"], trained)
    head = [f"{kind}, {batch}" for kind in ("model", "pipeline") for batch in batches]
    text += ANSWERS_NOTE.format(tokens=TOKENS) + table(["", *head, "peak memory, GiB", "difference"], answered)
    write_page(args.output, text)
    print(text, flush=True)


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train", nargs="*", choices=TRAINING, default=list(TRAINING), metavar="ROW")
    parser.add_argument("--answer", nargs="*", choices=ANSWERING, default=list(ANSWERING), metavar="ROW")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    batches = (1, 4) if args.quick else BATCHES
    trained, answered, parameters = [], [], 0.0
    for name in args.answer:
        answered.append(answer_row(args, name, batches))
        write(args, batches, trained, answered, parameters)
    for name in args.train:
        row, counted = train_row(args, name)
        trained.append(row)
        parameters = max(parameters, counted)
        write(args, batches, trained, answered, parameters)


if __name__ == "__main__":
    main()
