"""The Python API. May import tasks and what is beneath."""
