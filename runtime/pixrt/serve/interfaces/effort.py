"""How much work JSON may make: a few MiB of it can become a GiB of lists, and stop the event loop for a minute.

Must not import numpy or Pillow.
"""

from pixrt.serve.problems import Problem

# The pixels of 1024 x 1024, as numbers; a list or an object costs as much as some numbers. They take about a second.
MOST_VALUES, NESTED = 6_000_000, 4
_SMALL_BYTES = 1 << 20  # of which nothing large can be made


def check_json(text: bytes) -> None:
    """Raise Problem for JSON of more values than any request has."""
    if len(text) <= _SMALL_BYTES:
        return
    if text.count(b",") + NESTED * (text.count(b"[") + text.count(b"{")) > MOST_VALUES:
        message = "The JSON has too many values. Send pictures as base64, and tensors as bytes behind the JSON."
        raise Problem(413, "request_too_large", message)
