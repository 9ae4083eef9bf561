"""The front doors: what is typed, one-line messages, progress and Ctrl-C."""
