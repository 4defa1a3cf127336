"""What a client is told when it does not get a picture: a status, a code, the parameter, and whether to try again.

Must not import numpy or Pillow.
"""

from dataclasses import dataclass
from typing import Any

_MOST_CHARACTERS = 2000
MOST_RETRY_AFTER = 120  # seconds; the openai SDK gives up at a longer one


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error, in the shape that OpenAI's clients read.

    Attributes:
        status: the HTTP status.
        code: one word for programs, such as `unknown_parameter`.
        message: the problem and its remedy, for people.
        param: the field of the request that is wrong, if one is.
        retry_after: seconds after which the same request may succeed; None for one that will fail again.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None

    def __post_init__(self) -> None:
        self.message = _written(self.message)
        self.param = None if self.param is None else _written(self.param)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, (self.status, self.code, self.message, self.param, self.retry_after)

    @property
    def headers(self) -> dict[str, str]:
        """Whether to send the request again: without them the openai SDK sends each of 5xx three times."""
        if self.retry_after is None:
            return {"x-should-retry": "false"}
        return {"x-should-retry": "true", "retry-after": str(max(1, min(self.retry_after, MOST_RETRY_AFTER)))}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def _written(text: str) -> str:
    """A text that may repeat what a client has sent, as it can be sent back: JSON may hold half of a character."""
    return text[:_MOST_CHARACTERS].encode(errors="backslashreplace").decode()
