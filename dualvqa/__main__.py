"""python -m dualvqa: the console command."""

from dualvqa.cli import main

if __name__ == "__main__":
    main()
