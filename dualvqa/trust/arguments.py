"""How scores are made true, and what is left unanswered: the settings of calibration."""

from dataclasses import dataclass, field


@dataclass
class CalibrationArguments:
    """How scores are made true, and what is left unanswered."""

    calibrate: str = field(
        default="auto",
        metadata={
            "help": "Fit a temperature for each head on the validation part: auto, after training where it is large "
            "enough; true, or say why not, also of a saved model without --do_train; false."
        },
    )
    max_risk: float | None = field(
        default=None,
        metadata={
            "help": "Also choose the score below which questions are left unanswered, so that of the answers given at "
            "most this share is wrong."
        },
    )
    risk_of: str = field(
        default="answers",
        metadata={
            "help": "What --max_risk is a share of: answers, those that are given, with --risk_confidence; questions, "
            "all that are asked about an image, answered or not, in expectation (conformal risk control), which few "
            "images can promise already."
        },
    )
    promise_by: str | None = field(
        default=None,
        metadata={
            "help": "Give each group of questions a threshold and sets of answers of its own: head, or a column of the "
            "validation part, such as an organ, which is then named with each question. Groups of which nothing can be "
            "promised stay unanswered."
        },
    )
    risk_confidence: float = field(
        default=0.95, metadata={"help": "With --max_risk: probability with which it holds on other questions."}
    )
    fit_familiarity: bool = field(
        default=False,
        metadata={"help": "Also learn from the training part to flag questions that are unlike those of training."},
    )

    def check_calibration(self):
        self.calibrate = str(self.calibrate).lower()  # in a recipe true and false are no words
        if self.calibrate not in ("auto", "true", "false"):
            raise ValueError(f"calibrate must be auto, true or false, found {self.calibrate!r}")
        if self.max_risk is not None and not 0 < self.max_risk < 1:
            raise ValueError(f"max_risk must be between 0 and 1, found {self.max_risk}")
        if self.risk_of not in ("answers", "questions"):
            raise ValueError(f"risk_of must be answers or questions, found {self.risk_of!r}")
        if not 0.5 <= self.risk_confidence < 1:
            raise ValueError(f"risk_confidence must be in [0.5, 1), found {self.risk_confidence}")
        if self.risk_of != "answers" and self.max_risk is None:
            raise ValueError(
                f"--risk_of {self.risk_of} says what --max_risk is a share of: give --max_risk, or leave it out"
            )
        if self.calibrate == "false" and self.asks_for_calibration:
            raise ValueError(
                "--max_risk, --promise_by and --fit_familiarity are part of calibration; leave out --calibrate false"
            )

    @property
    def asks_for_calibration(self):
        """Whether a run without calibration would lack what was asked for."""
        asked = self.max_risk is not None or self.promise_by is not None or self.fit_familiarity
        return asked or self.calibrate == "true"
