"""`python -m pixrt`, the command line."""

from pixrt.cli import main

main()
