"""The page of benchmarks/light.py."""

from statistics import median

from measure import machine
from pages import command, table

HEAD = """# Answers without torch

Written by

```bash
{command}
```

{machine}.
Each figure is a median of calls or fresh processes in turn, with the range of their middle half. *light* is
`dualvqa_light` on onnxruntime; its forms are those of `dualvqa export --quantization`. OpenVINO reads the same files.
"""
GOALS = """
## Goals

{goals}
"""
MIB = 2**20


def middle(values, unit=1.0):
    ordered = sorted(values)
    quarter = len(ordered) // 4
    low, high = ordered[quarter] * unit, ordered[-1 - quarter] * unit
    return f"{median(values) * unit:.3g} ({low:.3g} to {high:.3g})"


def ratio(one, other):
    return median(one) / median(other)


def goals_of(found, installed):
    """Rows of measure, model, goal, reached."""
    rows = []
    for name, model in found.items():
        starts, times = model["starts"], model["latency"]
        same, apart = model["equality"]["fp32"]["same"], model["equality"]["fp32"]["apart"]
        first = ratio(starts["light int8"]["seconds"], starts["import torch, transformers"]["seconds"])
        peak = ratio(starts["light int8"]["peak"], starts["PyTorch fp32"]["peak"])
        rows.append(
            ["new process to first answer, light int8 / `import torch, transformers`", name, "≤ 0.3", f"{first:.2f}"]
        )
        rows.append(["peak memory, light int8 / PyTorch fp32, one question", name, "≤ 0.35", f"{peak:.2f}"])
        for threads, cells in times.items():
            best = min(cells, key=lambda cell: median(cells[cell]))
            value = ratio(cells[best], cells["onnxruntime int8"])
            what = f"latency of one question, fastest ({best}) / onnxruntime int8, threads: {threads}"
            rows.append([what, name, "≤ 0.75", f"{value:.2f}"])
        rows.append(["same best answer as the pipeline, fp32", name, "100 %", f"{same} of {model['rows']}"])
        rows.append(["largest difference of scores, fp32", name, "≤ 0.001", f"{apart:.5f}"])
    rows.append(["installed size, light / full", "", "≤ 0.05", f"{installed['light'] / installed['full']:.3f}"])
    return rows


def page(found, installed):
    text = HEAD.format(command=command(), machine=machine())
    text += GOALS.format(goals=table(["measure", "model", "goal", "reached"], goals_of(found, installed)))
    without = installed["full"] - installed["gpu"]
    text += (
        f"\nInstalled, with all that it needs: light {installed['light'] / MIB:,.0f} MiB, full "
        f"{installed['full'] / MIB:,.0f} MiB, of which {installed['gpu'] / MIB:,.0f} MiB are for GPUs; without them "
        f"light / full is {installed['light'] / without:.3f}.\n"
    )
    for name, model in found.items():
        rows = [[cell, middle(v["seconds"]), middle(v["peak"])] for cell, v in model["starts"].items()]
        text += f"\n## {name}\n\nFresh processes from start to end, one question answered but for the first row.\n\n"
        text += table(["process", "s", "peak MiB"], rows)
        heads = [
            "one question, new image, ms",
            *(f"{count} thread{'s' * (int(count) > 1)}" for count in model["latency"]),
        ]
        cells = next(iter(model["latency"].values()))
        rows = [[cell, *(middle(t[cell], 1e3) for t in model["latency"].values())] for cell in cells]
        text += "\nFrom the image's file to the answer, neither image nor question known from before.\n\n"
        text += table(heads, rows)
        rows = [
            [form, f"{model['bytes'][form] / MIB:.1f}", f"{e['same']} of {model['rows']}", f"{e['apart']:.5f}"]
            for form, e in model["equality"].items()
        ]
        text += "\nAgainst the pipeline in PyTorch, fp32; answer, head, abstention and unfamiliarity are compared.\n\n"
        text += table(["form", "MiB of ONNX files", "same best answer", "largest difference of its score"], rows)
    return text
