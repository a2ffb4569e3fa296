"""Trains, evaluates and asks a DualVQA model: python run_vqa.py recipes/X.yaml [--any_flag value ...]"""

from dualvqa.run.start import start as main

if __name__ == "__main__":
    main()
