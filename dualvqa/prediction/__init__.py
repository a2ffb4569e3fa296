"""Answers to the questions of files of any size."""
