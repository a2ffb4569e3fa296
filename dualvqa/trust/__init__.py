"""How far an answer can be trusted: calibration, abstention, familiarity and explanations."""
