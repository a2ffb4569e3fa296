"""What the benchmarks of reliability share: a run's data by its flags, and a saved model's outputs for them."""

import shlex
import sys
import tempfile

from pages import ROOT

sys.path.insert(0, str(ROOT))


def add_runs(parser):
    """The flag --run NAME FOLDER FLAGS, as often as wanted."""
    parser.add_argument(
        "--run",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "FOLDER", "FLAGS"),
        help="a saved model, and in quotes the recipe and flags of run_vqa.py that name its data",
    )


def rows_of(flags):
    """The canonical rows that a model is asked about: the test part, where it has answers, else the validation part."""
    from dualvqa.run.arguments import parse_arguments
    from processing import prepare_datasets

    _, data_args, _ = parse_arguments(shlex.split(flags))
    parts, *_ = prepare_datasets(data_args, needs_training=bool(data_args.train_file or not data_args.files))
    part = "test" if "answer" in getattr(parts.get("test"), "column_names", ()) else "validation"
    if part not in parts:
        raise SystemExit(f"error: {flags}: no test or validation part with answers")
    return parts[part]


def load(folder):
    """The model and the processor of a saved folder."""
    from dualvqa import load_model

    try:
        return load_model(folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


def outputs_of(model, processor, rows, batch_size=64):
    """name -> tensor of the logits, and the novelty where the model has it, in the rows' order."""
    from dualvqa.trainer import DualVQATrainer
    from dualvqa.training.arguments import DualVQATrainingArguments
    from processing import VQACollator, named_logits

    with tempfile.TemporaryDirectory() as folder:
        args = DualVQATrainingArguments(
            output_dir=folder, per_device_eval_batch_size=batch_size, report_to="none", disable_tqdm=True
        )
        trainer = DualVQATrainer(
            model=model, args=args, data_collator=VQACollator(processor), processing_class=processor
        )
        return named_logits(trainer.predict(rows).predictions, processor)
