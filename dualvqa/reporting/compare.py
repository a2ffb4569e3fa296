"""Compares runs that were evaluated on the same questions.

dualvqa compare runs/a runs/b [runs/c ...] --output compare.html
"""

import itertools
import os

from .figures import TYPES, Group
from .page import render
from .plots import TYPES as KINDS
from .report import ROWS
from .results import MODEL, numbered, read_results
from .statistics import mcnemar

SAME = ("image", "question", "references")  # what makes results of a row of two runs comparable


def load_run(folder):
    """The results of a run, part by part: part -> results in the order of their rows.

    Raises:
        ValueError: there is no report in the folder, or a damaged one.
    """
    path = os.path.join(folder, ROWS)
    if not os.path.isfile(path):
        raise ValueError(f"{folder} has no {ROWS}: evaluate it first, run_vqa.py --do_eval writes it")
    try:
        results = read_results(path)
        parts = {result["part"]: [] for result in results}
        for result in sorted(results, key=lambda result: result["row"]):
            parts[result["part"]].append(result)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); evaluate the run again") from error
    return parts


def check_same(runs):
    """The parts that all runs have, in the first one's order.

    Args:
        runs: name -> part -> results.

    Raises:
        ValueError: there is no such part, or one with other rows; the message names the first row that differs.
    """
    (first, parts), *others = runs.items()
    common = [part for part in parts if all(part in found for _, found in others)]
    if not common:
        found = "; ".join(f"{name} has {', '.join(parts) or 'none'}" for name, parts in runs.items())
        raise ValueError(f"the runs have no evaluated part in common: {found}")
    for part in common:
        for name, found in others:
            for a, b in itertools.zip_longest(parts[part], found[part]):
                problem = difference(a, b, first, name)
                if problem:
                    raise ValueError(f"the {part} parts differ: {problem}; evaluate the runs on the same file")
    return common


def difference(a, b, first, second):
    """The difference between two results that should be of one question, or None. Rows are named as people see them."""
    if a is None or b is None or a["row"] != b["row"]:
        name, more = (first, a) if b is None or (a and a["row"] < b["row"]) else (second, b)
        return f"only {name} has {place_of(more)}, {more['question']!r}"
    for field in SAME:
        if a[field] != b[field]:
            return f"{place_of(a)} has the {field} {a[field]!r} in {first} and {b[field]!r} in {second}"


def place_of(result):
    """Where a person finds the row of a result; reports of earlier versions know only its number."""
    return result.get("place") or numbered(result["row"])


def compare_part(runs, part):
    """Accuracies of each run, and differences of each two, on one part.

    Args:
        runs: name -> part -> results, of the same rows.

    Returns:
        A dict: `types` as in a report; `accuracy`, name -> answerer -> type -> figure; `pairs`, for each two runs a
        dict `first`, `second` and `answerers`, answerer -> type -> dict of `difference`, second less first, and what
        `mcnemar` gives.
    """
    names = list(runs)
    groups = {}
    for name in names:
        for kind in TYPES:
            chosen = [result for result in runs[name][part] if kind in ("all", result["type"])]
            if chosen:
                groups.setdefault(kind, {})[name] = Group(chosen)

    def pair(first, second, answerer, kind):
        a, b = (groups[kind][name].of(answerer) for name in (first, second))
        return {"difference": groups[kind][first].images.mean(b - a), **mcnemar(a, b)}

    return {
        "types": {kind: next(iter(found.values())).size for kind, found in groups.items()},
        "accuracy": {
            name: {
                answerer: {kind: found[name].accuracy(answerer) for kind, found in groups.items()} for answerer in MODEL
            }
            for name in names
        },
        "pairs": [
            {
                "first": first,
                "second": second,
                "answerers": {
                    answerer: {kind: pair(first, second, answerer, kind) for kind in groups} for answerer in MODEL
                },
            }
            for first, second in itertools.combinations(names, 2)
        ],
    }


def shown(figure, sign=""):
    """A figure in %, with its interval where it has one."""
    numbers = [f"{100 * figure[name]:{sign}.1f}" for name in ("value", "low", "high") if figure[name] is not None]
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]})" if len(numbers) == 3 else numbers[0]


def text(comparison):
    """A comparison as lines for a terminal."""
    for part, found in comparison.items():
        size = found["types"]["all"]
        yield f"\n{part} part, {size['questions']} questions about {size['images']} images; 95 % intervals by image"
        for answerer, kind in itertools.product(MODEL, found["types"]):
            yield f"  {answerer}, {KINDS[kind]}"
            for name, figures in found["accuracy"].items():
                yield f"    {name:30} {shown(figures[answerer][kind])} %"
            for pair in found["pairs"]:
                first, second, test = pair["first"], pair["second"], pair["answerers"][answerer][kind]
                yield (
                    f"    {second} - {first}: {shown(test['difference'], '+')} points; only {second} right "
                    f"{test['only_second']}, only {first} {test['only_first']}: McNemar p = {test['p']:.3g}"
                )


def names_of(folders):
    """Short names that tell the folders apart; the name of a model's folder stands for the evaluation in it."""
    folders = [os.path.normpath(folder) for folder in folders]
    short = [os.path.basename(folder.removesuffix(f"{os.sep}evaluation")) for folder in folders]
    return short if len(set(short)) == len(short) else folders


def compare_runs(folders, output=None):
    """Prints a comparison of evaluated runs.

    Args:
        folders: of two or more runs, with a report_rows.jsonl each.
        output: HTML page to write as well.

    Raises:
        ValueError: they can't be compared; the message says why.
    """
    if len({os.path.realpath(folder) for folder in folders}) < max(2, len(folders)):
        raise ValueError(f"expected two or more different runs, found {', '.join(folders)}")
    runs = dict(zip(names_of(folders), map(load_run, folders)))
    common = check_same(runs)
    left_out = sorted({part for parts in runs.values() for part in parts} - set(common))
    comparison = {part: compare_part(runs, part) for part in common}
    print("\n".join(text(comparison)))
    if left_out:
        print(f"\nnot compared, because not all runs have it: {', '.join(left_out)}")
    if output:
        page = render("compare.html.j2", parts=comparison, names=list(runs), left_out=left_out)
        os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
        with open(output, "w", encoding="utf-8") as file:
            file.write(page)
        print(f"\nwritten to {output}")
