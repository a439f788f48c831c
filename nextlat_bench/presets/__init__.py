"""Presets: for each task, functions that return runs at three scales."""
