"""What a run says on the terminal: what it reached, as a sentence and a small table."""

from modeling_dualvqa.card_notes_dualvqa import metric_name, own_figure
from processing import question_type_of
from processing.answers import as_list
from processing.leakage import in_short
from processing.vqa_accuracy.rules import ENGLISH

TYPES = {"yes/no": "binary_", "open-ended": "open_ended_", "all": ""}
WAYS = {
    "routed": "what the model says by itself",
    "oracle": "what it says when told if it is a yes/no question",
    "majority": "always the most frequent answer",
}
PARTS = {"eval": "validation part", "test": "test part"}
HEADS = {"binary": "yes/no", "open_ended": "open-ended", "question_type": "router"}
OWN = ("unanswerable_", "gqa_")  # see processing/own_scores.py
APART = ("runtime", "per_second", "epoch", "memory", "flos", "preparation_time")  # what takes time, not what is reached


def show_figures(name, metrics, rows=None, way=None, rules=ENGLISH):
    """Prints what was reached; in a run of several processes one of them calls it.

    Args:
        name: "train", "eval", "test" or "calibration", the prefix of the figures' names.
        metrics: as the Trainer gives them.
        rows: the canonical rows that they were measured on.
        way: how these were held out, in words; None where that isn't known.
        rules: how answers are compared, [`AnswerRules`].
    """
    print("\n" + "\n".join(figure_lines(name, metrics, rows, way, rules)), flush=True)


def figure_lines(name, metrics, rows=None, way=None, rules=ENGLISH):
    """The lines that `show_figures` prints."""
    figures = {key.removeprefix(f"{name}_"): value for key, value in metrics.items()}
    if name == "train":
        return training_lines(figures)
    if name == "calibration":
        return calibration_lines(figures)
    if "routed_accuracy" in figures:
        part = PARTS.get(name, name)
        counts = count_questions(rows, rules)
        said = reached(figures, counts, rules, several_answer(rows))
        lines = accuracy_lines(f"{part} ({in_short(way)})" if way else part, figures, counts, said)
        return lines if way == in_short(way) else [*lines, f"  seen: {way}"]
    shown = {key: value for key, value in figures.items() if not any(word in key for word in APART)}
    return [
        f"{PARTS.get(name, name)}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in shown.items())
    ]


def training_lines(figures):
    seconds = figures["runtime"]
    took = f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"
    mean = f", the mean of {figures['averaged_checkpoints']} checkpoints" if figures.get("averaged_checkpoints") else ""
    return [f"Trained for {figures['epoch']:.3g} epochs in {took}: mean loss {figures['loss']:.4g}{mean}."]


def memory_line(memory, record):
    """A sentence about a memory: `config.memory`, and `config.model_card`, which says how it was fitted."""
    line, figures = f"Memory of {memory['examples']:,} questions about {memory['images']:,} images", record["memory"]
    if figures is None and record.get("cross_fit"):
        return (
            f"{line}, with the medians of the parameters that the {record['cross_fit']['folds']} folds' memories have."
        )
    if figures is None:
        return f"{line}, with its usual parameters: there are too few held-out questions to fit them on."
    with_it = "" if figures["with"] is None else f", with it and parameters of other images {figures['with']:.1%}"
    if figures["with"] is not None and figures["with"] < figures["without"]:
        with_it += ", which is less: --memory false trains without it"
    return (
        f"{line}, fitted on {figures['rows']:,} questions ({figures['held_out']}): the heads alone answer "
        f"{figures['without']:.1%} right{with_it}. Other figures of these questions are those of parameters that "
        f"were fitted on them: somewhat too high."
    )


def calibration_lines(figures):
    fitted = {HEADS[head]: figures.get(f"{head}_temperature") for head in HEADS}
    fitted = ", ".join(f"{head} {value:.3g}" for head, value in fitted.items() if value is not None)
    by = ""
    if "folds" in figures:
        right = f"{figures['routed_accuracy']:.1%} answered right"
        by = f", by cross-fitting in {figures['folds']} folds, which don't see what they score ({right})"
    lines = [
        f"Calibrated on {figures['rows']:,} questions about {figures['images']:,} images{by}: scores were off by "
        f"{figures['routed_ece_before']:.1%} on average and now by {figures['routed_ece_after']:.1%}."
    ]
    lines += [f"Temperatures: {fitted}."] if fitted else []
    if "max_risk" in figures:
        below = f"Below a score of {figures['threshold']:.3g}" if "threshold" in figures else "Below that of its group"
        answered, risk = f"{figures['coverage']:.1%} are answered", f"at most {figures['max_risk']:.1%}"
        promised = f"of which {risk} wrongly"
        if figures.get("risk_of") == "questions":
            promised = f"and of all questions {risk} are expected to be answered wrongly"
        lines.append(f"{below} a question is left unanswered: {answered}, {promised}.")
    if "largest_coverage" in figures:
        lines.append(f"Sets of answers can be promised to have the right one in {figures['largest_coverage']:.1%}.")
    return lines


def count_questions(rows, rules):
    """The number of questions of each type by [`AnswerRules`], {} where it isn't known."""
    if rows is None or "answer" not in rows.column_names:
        return {}
    kinds = [question_type_of(rules.consensus(answer)) for answer in rows["answer"][:]]
    return {"yes/no": kinds.count(0), "open-ended": kinds.count(1), "all": len(kinds)}


def several_answer(rows):
    """Whether questions of canonical rows have the answers of several people."""
    known = rows is not None and "answer" in rows.column_names
    return known and any(len(as_list(answer)) > 1 for answer in rows["answer"][:])


def reached(figures, counts, rules, several):
    """What share of the questions was answered right; where answers are partly right, or another metric than exact
    match scores them, its name and what a score is."""
    share, name = f"{figures['routed_accuracy']:.1%}", metric_name(rules.saved())
    if name == "accuracy" and not several:
        of = f" of {counts['all']:,} questions" if counts else ""
        return f"{share}{of} answered right"
    over = f" over {counts['all']:,} questions" if counts else ""
    agreement = ", each scored by how many people agree" if several else ""
    return f"{name} {share}{over}{agreement}"


def accuracy_lines(part, figures, counts, said):
    """A sentence, the table of accuracies, and what limits them."""
    instead = (
        f"; always the most frequent answer: {figures['majority_accuracy']:.1%}"
        if "majority_accuracy" in figures
        else ""
    )
    lines = [f"{part[0].upper()}{part[1:]}: {said}{instead}."]
    ways = [way for way in WAYS if f"{way}_accuracy" in figures]
    lines.append(" " * 12 + "".join(f"{way:>10}" for way in ways) + (f"{'questions':>12}" if counts else ""))
    for label, prefix in TYPES.items():
        shares = [figures.get(f"{way}_{prefix}accuracy") for way in ways]
        if any(share is not None for share in shares):
            cells = "".join(f"{'' if share is None else format(share, '.1%'):>10}" for share in shares)
            lines.append(f"  {label:<10}{cells}" + (f"{counts[label]:>12,}" if counts else ""))
    lines.append("  " + ", ".join(f"{way}: {WAYS[way]}" for way in ways))
    if "coverage" in figures:
        lines.append(
            f"  coverage: with this vocabulary the open-ended accuracy can be {figures['coverage']:.1%} at most"
        )
    own = [own_figure(name, value) for name, value in figures.items() if name.startswith(OWN)]
    lines += [f"  besides: {', '.join(own)}"] if own else []
    if "router_accuracy" in figures:
        lines.append(f"  router: right for {figures['router_accuracy']:.1%} of the questions")
    if "abstention_coverage" in figures:
        wrong = f", of which {figures['abstention_risk']:.1%} wrongly" if "abstention_risk" in figures else ""
        lines.append(f"  abstention: {figures['abstention_coverage']:.1%} of the questions answered{wrong}")
    return lines
