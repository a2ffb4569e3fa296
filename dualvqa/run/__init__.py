"""One run, from its settings to its report: what run_vqa.py and the console command do."""
