"""Measured records, one JSON Lines file a task; `nextlat-bench report` reads them."""
