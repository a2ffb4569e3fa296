"""Answers without torch: start, size, memory, latency, and whether they are the pipeline's.

python benchmarks/light.py --output docs/results/light.md --easy_vqa runs/easy_vqa [--vqa_rad FOLDER FILE IMAGE_DIR]

runs/easy_vqa is what `make demo` trains; FOLDER what a recipe of radiology trained, with the table and the folder of
images that it read. They are exported to runs/light. About 10 minutes on two cores. --rounds, --starts and --count
make it shorter. OpenVINO is measured where it is installed, and no part of the light runtime.
"""

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from installed import needs, own, sizes
from pages import ROOT, build_parser, run_alone, write_page

sys.path.insert(0, str(ROOT))

FORMS = {"fp32": None, "float16": "float16", "int8": "int8"}
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
ANSWER = "pipe(sys.argv[2], sys.argv[3])"
LIGHT = f"import sys; from dualvqa_light import LightPipeline; pipe = LightPipeline(sys.argv[1]); {ANSWER}; {PEAK}"
FULL = (
    "import sys; from modeling_dualvqa import DualVQAForQuestionAnswering as Model; "
    "from modeling_dualvqa.pipeline_dualvqa import DualVQAPipeline; from processing import DualVQAProcessor; "
    "folder = sys.argv[1]; processor = DualVQAProcessor.from_pretrained(folder); "
    f"pipe = DualVQAPipeline(Model.from_pretrained(folder), processor); {ANSWER}; {PEAK}"
)
IMPORTS = f"import torch, transformers; {PEAK}"


class OpenVino:
    """One part on OpenVINO, as the light pipeline asks onnxruntime's sessions."""

    def __init__(self, path, threads):
        import openvino

        hints = {"PERFORMANCE_HINT": "LATENCY"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        self.session = openvino.Core().compile_model(path, "CPU", hints)
        self.request = self.session.create_infer_request()

    def get_inputs(self):
        return [argparse.Namespace(name=port.any_name) for port in self.session.inputs]

    def get_outputs(self):
        return [argparse.Namespace(name=port.any_name) for port in self.session.outputs]

    def run(self, _, inputs):
        self.request.infer(inputs)
        return [self.request.get_output_tensor(place).data.copy() for place in range(len(self.session.outputs))]


def rows_of(source, count):
    """At most `count` rows of the test part of easy-VQA, or of a table with the folder of its images."""
    if source:
        lines = Path(source[0]).read_text(encoding="utf-8").splitlines()[:count]
        rows = map(json.loads, lines)
        return [{"image": os.path.join(source[1], row["image"]), "question": row["question"]} for row in rows]
    import easy_vqa

    paths = easy_vqa.get_test_image_paths()
    questions, _, images = easy_vqa.get_test_questions()
    return [{"image": paths[i], "question": q} for q, i in itertools.islice(zip(questions, images), count)]


def export(folder, output_dir):
    from dualvqa.deployment.onnx_export import export_onnx

    for form, quantization in FORMS.items():
        shutil.rmtree(output_dir / form, ignore_errors=True)
        export_onnx(folder, output_dir / form, quantization=quantization)


def equality(folder, exported, rows):
    """Form -> questions whose best answer, type, abstention and unfamiliarity are the pipeline's; furthest score."""
    from dualvqa_light import LightPipeline

    expected, found = list(full_pipeline(folder)(rows)), {}
    for form in FORMS:
        pairs = list(zip(list(LightPipeline(exported / form)(rows)), expected, strict=True))
        same = [{**one[0], "score": 0} == {**other[0], "score": 0} for one, other in pairs]
        apart = max(abs(one[0]["score"] - other[0]["score"]) for one, other in pairs)
        found[form] = {"same": sum(same), "apart": apart}
    return found


def full_pipeline(folder):
    from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
    from processing import DualVQAProcessor

    return DualVQAPipeline(
        DualVQAForQuestionAnswering.from_pretrained(folder),
        DualVQAProcessor.from_pretrained(folder),
        embedding_cache_mib=0,
    )


def latency(folder, exported, rows, threads, rounds):
    """Form -> seconds of one question, image and question new each time, file to answer."""
    import torch
    from measure import interleaved

    from dualvqa_light import LightPipeline

    torch.set_num_threads(threads)
    pipes = {"PyTorch fp32": full_pipeline(folder)}
    for form in FORMS:
        pipes[f"onnxruntime {form}"] = LightPipeline(exported / form, threads=threads, embedding_cache_mib=0)
    if importlib.util.find_spec("openvino"):
        for form in ("fp32", "int8"):
            pipe = pipes[f"OpenVINO {form}"] = LightPipeline(exported / form, threads=threads, embedding_cache_mib=0)
            pipe.sessions = {part: OpenVino(exported / form / f"{part}.onnx", threads) for part in pipe.sessions}
    row = rows[0]
    return interleaved({name: lambda pipe=pipe: pipe(**row) for name, pipe in pipes.items()}, rounds)


def starts(folder, exported, row, repeats):
    """Process -> seconds from start to end and peak MiB, of `repeats` fresh ones each, in turn."""
    cells = {"import torch, transformers": (IMPORTS, "")} | {"PyTorch fp32": (FULL, folder)}
    cells |= {f"light {form}": (LIGHT, exported / form) for form in FORMS}
    found = {name: {"seconds": [], "peak": []} for name in cells}
    for number in range(repeats + 1):
        for name, (code, place) in cells.items():
            command = [sys.executable, "-c", code, str(place), row["image"], row["question"]]
            started = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            if number:  # the first reads files into the disk's cache, and writes bytecode
                found[name]["seconds"].append(time.perf_counter() - started)
                found[name]["peak"].append(int(done.stdout.split()[-1]) / 1024)
    return found


def measure_model(args):
    """All of one model, in JSON: exported, compared and timed in a process of its own."""
    folder = args.one[0]
    exported = ROOT / "runs" / "light" / hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:12]
    rows = rows_of(args.one[1:], args.count or (200 if args.one[1:] else 500))
    export(folder, exported)
    files = {form: [exported / form / f"{part}.onnx" for part in ("vision", "text", "heads")] for form in FORMS}
    found = {"rows": len(rows), "equality": equality(folder, exported, rows)}
    found["bytes"] = {form: sum(file.stat().st_size for file in files[form]) for form in FORMS}
    threads = sorted({1, os.cpu_count()}) if not args.quick else [1]
    found["latency"] = {count: latency(folder, exported, rows, count, args.rounds) for count in threads}
    found["starts"] = starts(folder, exported, rows[0], args.starts)
    print(json.dumps(found))


def installed_sizes():
    light, full = sizes(needs("dualvqa-light")), sizes(needs("dualvqa"))
    gpu = sum(size for name, size in full.items() if name.startswith(("nvidia-", "cuda-", "triton")))
    mine = own(["dualvqa", "dualvqa_light", "modeling_dualvqa", "processing"])
    return {"light": sum(light.values()) + own(["dualvqa_light"]), "full": sum(full.values()) + mine, "gpu": gpu}


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output")
    parser.add_argument("--easy_vqa", metavar="FOLDER", help="a model of easy-VQA")
    parser.add_argument("--vqa_rad", nargs=3, metavar=("FOLDER", "FILE", "IMAGE_DIR"), help="one of radiology")
    parser.add_argument("--rounds", type=int, default=20, help="of timing one question in every form")
    parser.add_argument("--starts", type=int, default=7, help="fresh processes of each kind")
    parser.add_argument("--count", type=int, help="questions compared; 500 of easy-VQA and 200 of radiology")
    parser.add_argument("--quick", action="store_true", help="one thread alone, to see that it runs")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return measure_model(args)
    if not args.output or not (args.easy_vqa or args.vqa_rad):
        parser.error("give --output, and --easy_vqa or --vqa_rad or both")
    shared = ["--rounds", args.rounds, "--starts", args.starts, *(["--quick"] if args.quick else [])]
    shared += ["--count", args.count] if args.count else []
    models = {"easy-VQA": args.easy_vqa and [args.easy_vqa], "radiology": args.vqa_rad}
    found = {name: run_alone("--one", *given, *shared) for name, given in models.items() if given}
    from light_page import page

    write_page(args.output, page(found, installed_sizes()))


if __name__ == "__main__":
    main()
