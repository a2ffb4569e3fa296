"""Rows that are left out because of what a column has: column=value."""

import json
import logging
from collections import Counter

from .canonical import to_text
from .wording import worded

logger = logging.getLogger(__name__)

FLAG = "--exclude_rows"
MOST_VALUES = 1000  # different values of a column that are remembered
SHOWN = 10


class Exclusion:
    """The rules of --exclude_rows on one source, and what they found there.

    A value is compared as JSON writes it, true and 1 and null, and as plain text.

    Args:
        rules: "column=value" texts.
        source: its name, for messages.
        columns: those that it has. Rules on others do nothing here, and the log says so; see `check_rules`.
    """

    def __init__(self, rules, source, columns):
        self.source, self.rules = source, []
        self.hits, self.seen = Counter(), {}
        for rule in rules:
            column, value = rule.split("=", 1)
            if column in columns:
                self.rules.append((column, value))
                self.seen[column] = Counter()
            else:
                logger.warning("%s has no column %s: %s %s leaves nothing out", source, column, worded(FLAG), rule)

    @property
    def columns(self):
        return list(self.seen)

    def leaves_out(self, row):
        """Whether a rule excludes a row, a dict with the rules' columns."""
        found = {column: spellings(row.get(column)) for column in self.seen}
        for column, values in found.items():
            if len(self.seen[column]) < MOST_VALUES:
                self.seen[column][values[0]] += 1
        hit = [rule for rule in self.rules if rule[1] in found[rule[0]]]
        self.hits.update(hit)
        return bool(hit)

    def report(self):
        """Warns of each rule that excluded nothing, with the values that there are."""
        for column, value in self.rules:
            if not self.hits[column, value]:
                there = [text[:60] for text, _ in self.seen[column].most_common(SHOWN)]
                more = ", ..." if len(self.seen[column]) > SHOWN else ""
                logger.warning(
                    "%s: %s %s=%s leaves nothing out; values of %s are %s%s",
                    self.source,
                    worded(FLAG),
                    column,
                    value,
                    column,
                    ", ".join(there),
                    more,
                )


def spellings(value):
    """The texts that a rule may name a value by, that of JSON first."""
    texts = [json.dumps(value, ensure_ascii=False, default=str)]
    if not isinstance(value, (list, dict)):
        texts += [to_text(value), str(value)]  # 1 for 1.0, red for "red", True for true
    return texts


def check_rules(rules, columns):
    """
    Args:
        columns: those of all sources that rules are for.

    Raises:
        ValueError: a rule on a column that isn't there, which would leave nothing out without a word.
    """
    for rule in rules:
        column = rule.split("=", 1)[0]
        if column not in columns:
            raise ValueError(f"--exclude_rows {rule}: no column {column!r}, found {', '.join(columns)}")
