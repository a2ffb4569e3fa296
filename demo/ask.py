"""Asks a saved model through the pipeline, with transformers alone: python demo/ask.py FOLDER"""

import json
import sys
from pathlib import Path

from transformers import pipeline
from transformers.utils import logging

TABLE = {
    "yes/no": "binary_accuracy",
    "open-ended": "open_ended_accuracy",
    "all": "accuracy",
}

folder = Path(sys.argv[1])
logging.disable_progress_bar()
ask = pipeline("visual-question-answering", model=str(folder), trust_remote_code=True)

print("\nThree questions about test images, answered by the saved folder in a fresh process:")
asked = {}
for line in (folder / "predictions.jsonl").open(encoding="utf-8"):
    row = json.loads(line)
    asked.setdefault(row["image"], row)
    if len(asked) == 3:
        break
for row in asked.values():
    best = ask(image=row["image"], question=row["question"])[0]
    print(f"  {row['question']:<40} {best['answer']:<10} {best['score']:.1%}   (correct: {row['source_answer']})")

results = json.loads((folder / "all_results.json").read_text())
print(f"\nReached on the official test part, after {results['train_runtime'] / 60:.1f} minutes of training:")
print(f"  {'':<12}{'routed':>10}{'oracle':>10}{'majority':>10}")
for label, name in TABLE.items():
    shares = [results[f"test_{kind}_{name}"] for kind in ("routed", "oracle", "majority")]
    print(f"  {label:<12}" + "".join(f"{share:>10.2%}" for share in shares))

print(f"\nIn {folder}:")
for name, meaning in {
    "model.safetensors": "and the files beside it: AutoModel.from_pretrained(folder, trust_remote_code=True)",
    "curves.png": "loss and accuracy over the epochs",
    "sheet.png": "test images with question, answer and score",
    "predictions.jsonl": "an answer for each test question",
    "all_results.json": "every figure",
}.items():
    print(f"  {name:<20} {meaning}")
