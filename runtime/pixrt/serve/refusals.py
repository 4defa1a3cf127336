"""Why pictures are not accepted, as problems that clients are told. Must not import numpy or Pillow."""

import math

from pixrt.dispatch.admission import Refusal
from pixrt.serve.problems import Problem


def problem_of(refusal: Refusal, count: int, seats: int) -> Problem:
    """What a client is told whose `count` pictures were refused, by a service of so many seats."""
    if refusal.reason == "full":
        if refusal.retry_after is None:
            message = f"{count} pictures are asked for together, and {seats} are taken on. Ask for fewer at once."
            return Problem(400, "too_many_pictures", message, "n")
        seconds = whole_seconds(refusal.retry_after)
        return Problem(
            429, "queue_full", f"All of {seats} seats are taken. Try again in {seconds} s.", retry_after=seconds
        )
    if refusal.retry_after is None:
        message = "The deadline is nearer than the picture takes. Give it more time, or take fewer steps."
        return Problem(504, "deadline_too_near", message, "deadline_ms")
    seconds = whole_seconds(refusal.retry_after)
    whose = "its deadline" if refusal.reason == "late" else "the deadline of one that was accepted"
    message = f"With the picture {whose} would pass. Try again in {seconds} s, or give it more time."
    return Problem(429, "deadline_unreachable", message, "deadline_ms", retry_after=seconds)


def too_late() -> Problem:
    """What was accepted has waited longer than expected."""
    return Problem(504, "deadline_passed", "The deadline passed while the picture waited.", "deadline_ms")


def whole_seconds(seconds: float | None) -> int:
    """Rounded up; one at least."""
    return max(1, math.ceil(seconds or 0))
