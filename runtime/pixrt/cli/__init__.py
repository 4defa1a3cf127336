"""The command line: `pixrt edit | models | inspect | doctor | schema | export | build | data | train | eval`.

Exit codes: 0 done; 1 failed; 2 a wrong parameter; 3 a picture that cannot be read; 4 a bundle that cannot be used;
5 a checkpoint that cannot be exported; 6 no backend, or it failed; 7 an output that cannot be written; 8 training
that cannot go on; 9 training data that cannot be used; 10 a package that is missing; 130 cancelled.
Results go to standard output; progress, warnings and errors to standard error.
"""

from pixrt.cli.app import main

__all__ = ["main"]
