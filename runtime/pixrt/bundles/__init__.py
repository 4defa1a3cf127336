"""What is on disk, checked. May import errors and files."""
