"""The command line: `pixrt edit | models | inspect | doctor | schema | export | build | data | train | eval`.

Exit codes: 0 done; 1 failed; 2 a wrong parameter; 3 a picture that cannot be read; 4 a bundle that cannot be used;
5 a checkpoint that cannot be exported; 6 no backend, or it failed; 7 an output that cannot be written; 8 training
that cannot go on; 9 training data that cannot be used; 10 a package that is missing; 130 cancelled.
Results go to standard output; progress, warnings and errors to standard error.
"""

import gc
import os
import signal
import sys


def main() -> None:
    """The entry point. Signals and streams are seen to before the rest is imported, which takes a while."""
    if sys.stderr is sys.__stderr__:  # in a process of its own
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if signal.getsignal(getattr(signal, name, signal.SIGINT)) != signal.SIG_IGN:
                signal.signal(getattr(signal, name, signal.SIGINT), _end)
        # NumPy's BLAS has threads from its import on; they would take a core for a while, looking for work.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
        gc.disable()  # until a command begins: imports make much, and no garbage
    from pixrt.cli.stopping import EXIT_CODE, end_at_once, watching
    from pixrt.cli.streams import settle_streams

    owns_process = settle_streams()
    with watching(for_good=owns_process):
        try:
            from pixrt.cli.entry import run

            run()
        except KeyboardInterrupt:
            if owns_process:
                end_at_once()
            raise SystemExit(EXIT_CODE) from None


def _end(*_: object) -> None:
    """End the process at a signal while there is nothing but this module."""
    try:
        os.write(2, b"error: cancelled. Nothing was begun.\n")
    finally:
        os._exit(130)


__all__ = ["main"]
