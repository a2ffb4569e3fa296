"""Training with the Hugging Face Trainer: arguments, losses, sampling, checkpoints."""
