"""From measured records to tables and figures; imports neither torch nor tasks."""
