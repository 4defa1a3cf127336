"""What a client is told."""

from pixrt.serve.problems import Problem


def test_what_a_client_has_sent_can_be_sent_back() -> None:
    problem = Problem(400, "invalid_value", "There is no \ud800 here." + "x" * 100_000, "\udfff")
    assert problem.message.startswith("There is no \\ud800 here.xxx")
    assert len(problem.message.encode()) < 2010
    assert problem.param == "\\udfff"


def test_when_to_ask_again() -> None:
    assert Problem(400, "c", "m").headers == {"x-should-retry": "false"}
    for seconds, told in ((0, "1"), (7, "7"), (1000, "120")):  # the openai SDK gives up at a longer one
        headers = Problem(503, "c", "m", retry_after=seconds).headers
        assert headers == {"x-should-retry": "true", "retry-after": told}
