"""Models outside of PyTorch."""
