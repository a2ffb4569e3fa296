"""The metric as a folder of its own, which `evaluate.load` takes by its path: it needs nothing else of this package."""
