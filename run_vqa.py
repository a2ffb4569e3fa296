"""Trains, evaluates and asks a DualVQA model: python run_vqa.py recipes/X.yaml [--any_flag value ...]"""

from dualvqa.run.main import main, stop_processes

if __name__ == "__main__":
    main()
    stop_processes()
