"""Each row's group, for a model whose threshold was chosen for each value of a column."""

import json
import logging

from processing.promises_dualvqa import groups_of_column, listed

logger = logging.getLogger(__name__)

MOST_TOLD = 20  # values that are told; a column may have as many as rows


class RowGroups:
    """
    Args:
        calibration: the model's, or None.
        promises: those that are asked for, "abstention" or "sets".
    """

    def __init__(self, calibration, promises=("abstention",)):
        self.column, self.known = groups_of_column({name: (calibration or {}).get(name) for name in promises})
        self.told = set()

    def check(self, file):
        """
        Raises:
            ValueError: a file without the column.
        """
        if self.column is not None and self.column not in file.column_names:
            raise ValueError(
                f"{file.source} has no column {self.column}, by which this model's threshold was chosen "
                f"({listed(self.known)}): add it, null in rows whose value isn't known; these get the guess alone. "
                f"Found {', '.join(file.column_names)}"
            )

    def of(self, question):
        """The group of a [`Question`], None for one that nothing is promised to; a strange value is told once."""
        if self.column is None:
            return None
        value = json.loads(question.fields.get(self.column, "null"))
        if str(value) in self.known:
            return str(value)
        if value is not None and str(value) not in self.told and len(self.told) < MOST_TOLD:
            self.told.add(str(value))
            logger.warning(
                "%s: the model's threshold was chosen for each %s of %s; rows of %.60s stay unanswered",
                question.place,
                self.column,
                listed(self.known),
                value,
            )
        return None
