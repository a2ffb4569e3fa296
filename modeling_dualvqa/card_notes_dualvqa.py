"""What a model card and a report have to say of figures in words: what they are figures of, and of which weights."""

WAYS = {
    "held out by image": "none of its images was trained on.",
    "held out by question": "its images were trained on with other questions, its questions in no wording.",
    "held out by wording": "each of its questions was trained on in another wording, about the same image.",
}

METRICS = {"vqa": "VQA accuracy", "vizwiz": "VizWiz accuracy", "gqa": "GQA accuracy"}  # "exact" is plain accuracy
COMPARED = {
    "exact": "Answers are compared as strings, after normalisation",
    "vqa": "The metric is `vqa`, the VQA evaluation's own score: answers are compared in its normal form",
    "vizwiz": "The metric is `vizwiz`, VizWiz's own score: answers are compared in the VQA evaluation's normal form",
    "gqa": "The metric is `gqa`, GQA's own score: an answer is right when it is written as the reference is",
}
SHARES = {  # of several people's answers, see processing/vqa_accuracy/answer_strings.py
    "vqa": "the mean, over leaving each person out, of min(matches / 3, 1)",
    "exact": "min(matches / 3, 1), of two people the share that agrees",
}


def metric_of(rules):
    """The name of the metric in saved rules of comparison, a dict or None."""
    return (rules or {}).get("metric") or "exact"


def metric_name(rules):
    """What figures by saved rules of comparison are called."""
    return METRICS.get(metric_of(rules), "accuracy")


def yes_and_no(rules):
    """The words of saved rules that the model says for yes and for no."""
    return tuple(((rules or {}).get(f"{word}_answers") or [word])[0] for word in ("yes", "no"))


def scores_note(record):
    """How the answers behind the figures were compared and scored."""
    metric = metric_of(record.get("answer_rules"))
    note = f"{COMPARED[metric]}; one run, one seed."
    if any(row.get("people", 1) > 1 for row in record.get("data") or ()):
        share = SHARES["vqa" if metric in ("vqa", "vizwiz") else "exact"]
        note += (
            f" Where several people answered, an answer scores by how many of them gave it: {share}. The figures are "
            f"means of such shares of agreement, not shares of right answers."
        )
    return note


def refit_note(record):
    """What has to be said of figures that were measured before the weights were trained anew."""
    refit = record["refit"]
    note = (
        f"The weights were trained anew after the model was measured: on all {refit['questions']:,} questions about "
        f"{refit['images']:,} images, those of the validation part too, for the same {refit['steps']:,} steps. Nothing "
        f"is held out of them. The figures of the validation part, temperatures and limits are those of the model "
        f"before, which was trained on the training part alone."
    )
    if (record.get("results") or {}).get("test"):
        note += " The figures of the test part are those of the new weights."
    return note


def cross_fit_note(record):
    """What has to be said of figures that come from models of folds."""
    found = record["cross_fit"]
    return (
        f"The model was trained on all {found['questions']:,} questions about {found['images']:,} images, for "
        f"{found['steps']:,} steps, and nothing is held out of it. Temperatures, thresholds, sets of answers and their "
        f"figures were found by cross-fitting: {found['folds']} other models, trained for as many steps without one "
        f"fold of the images each, have scored the questions about these. The promises are exact for such models, and "
        f"hold for this one as far as it is no worse."
    )


def memory_note(memory, record):
    """What there is to say of a memory.

    Args:
        memory: `config.memory`.
        record: `config.model_card`, in which `memory` says what was measured.
    """
    found = record.get("memory")
    note = (
        f"The model keeps {memory['examples']:,} answered questions about {memory['images']:,} images, and those that "
        f"are most like a new one answer beside its heads (k-nearest-neighbour interpolation, Khandelwal et al. 2020)."
    )
    if memory.get("new_answers"):
        note += f" They know {memory['new_answers']:,} answers that no head has."
    if found:
        note += (
            f" How much they count was fitted on {found['rows']:,} held-out questions ({found['held_out']}). Of these "
            f"the heads alone answer {found['without']:.1%} correctly"
        )
        if found["with"] is not None:
            note += f", with the memory {found['with']:.1%}, with parameters of questions about other images"
        note += (
            ". Other figures of these questions are those of parameters that were fitted on them: somewhat too high."
        )
    elif record.get("cross_fit"):
        folds = record["cross_fit"]["folds"]
        note += f" How much they count is the median of what was found for the memories of the {folds} folds' models."
    else:
        note += " How much they count wasn't fitted: the parameters are the usual ones."
    return note + (
        " A memory profits from rewordings: where the same was asked in training about the same image, it copies the "
        "answer. Figures of such questions say nothing of new images."
    )


def own_figure(name, value):
    """A public set's own figure in words: a share, but for GQA's distribution."""
    shown = f"{value:.2f} (lower is better)" if name == "gqa_distribution" else f"{value:.1%}"
    return f"{name.replace('_', ' ')} {shown}"
