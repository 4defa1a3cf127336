"""What is done before the first request, so that it waits for nothing."""

import asyncio
import subprocess
import sys

from pixrt.serve.app import make_app, warm_up
from serving import FakeService


def test_an_application_that_is_warmed_up_has_asked_for_no_picture() -> None:
    service = FakeService()
    asyncio.run(warm_up(make_app(service)))
    assert service.accepted == []


def test_codecs_are_loaded_before_the_first_picture() -> None:
    words = """
import sys
from pixrt.serve.warming import warm_codecs
names = [f"PIL.{name}ImagePlugin" for name in ("Jpeg", "Png", "WebP")]
assert not [name for name in names if name in sys.modules]
warm_codecs()
assert not [name for name in names if name not in sys.modules]
"""
    subprocess.run([sys.executable, "-c", words], check=True)
