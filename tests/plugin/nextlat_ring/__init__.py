"""An example of a plugin package: a module each for a task, an objective and a probe."""
