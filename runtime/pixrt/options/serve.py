"""How `pixrt serve` listens, whom it lets in, and how much it takes on. Must not import numpy or Pillow."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixrt.errors import OptionError
from pixrt.options.fields import option
from pixrt.options.marking import MarkingOptions
from pixrt.options.session import SessionOptions

LogFormat = Literal["text", "json"]
_ADDRESS, _ACCESS, _QUEUE, _LIMITS = "Address", "Access", "Queue", "Limits"
_OBSERVING = "Observing"

SERVE_SESSION = SessionOptions(max_batch=8)  # how a server opens its bundle, if nothing else is said


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(MarkingOptions):
    """How the server runs, and how it marks results. Validated on construction: OptionError.

    A path comes from a flag, the environment or the settings file, never from a request.
    """

    host: str = option(
        "127.0.0.1",
        "The address to listen on; one that others reach needs --keys-file, or --insecure.",
        kind="text",
        group=_ADDRESS,
    )
    port: int = option(
        8765, "The port to listen on; 0 takes a free one.", kind="whole", low=0, high=65535, group=_ADDRESS
    )
    allowed_hosts: str = option(
        "",
        "Names by which clients call the server, with commas, or * for any. If empty: without keys those of this"
        " machine and --host, so that no web page reaches the server by a name of its own; with keys, any.",
        kind="text",
        group=_ADDRESS,
    )
    keys_file: Path | None = option(
        None,
        "API keys, a line NAME:SHA256 each, as --new-key prints it; without it everybody who reaches the server"
        " may use it.",
        kind="path",
        group=_ACCESS,
    )
    insecure: bool = option(False, "Listen on an address that others reach, without keys.", kind="flag", group=_ACCESS)
    rate: str | None = option(
        None,
        "Most requests for pictures of one key (or address, without keys), such as 60/minute.",
        kind="text",
        group=_ACCESS,
    )
    open_metrics: bool = option(False, "/metrics needs no key.", kind="flag", group=_ACCESS)
    queue: int = option(
        64,
        "Pictures that may wait; further ones are refused at once (429), with the time to try again.",
        kind="whole",
        low=0,
        high=100_000,
        group=_QUEUE,
    )
    max_rows: int = option(
        24,
        "Most rows of a network call: a picture has up to three in each step.",
        kind="whole",
        low=1,
        high=192,
        group=_QUEUE,
    )
    lora_folder: Path | None = option(
        None,
        "A folder of LoRA files (.safetensors), which requests may name.",
        kind="path",
        group=_QUEUE,
    )
    embedding_folder: Path | None = option(
        None,
        "A folder of textual-inversion embeddings (.safetensors), for texts of every request.",
        kind="path",
        group=_QUEUE,
    )
    max_loras: int = option(
        2,
        "Most sets of LoRAs that are open at once; each takes the memory of a UNet.",
        kind="whole",
        low=1,
        high=64,
        group=_QUEUE,
    )
    stuck_seconds: float = option(
        60.0,
        "A worker that says nothing for so many seconds is ended and started again.",
        kind="number",
        low=1,
        high=86_400,
        group=_QUEUE,
    )
    drain_seconds: float = option(
        300.0,
        "After SIGTERM, what is accepted has so many seconds to finish.",
        kind="number",
        low=0,
        high=86_400,
        group=_QUEUE,
    )
    result_seconds: float = option(
        600.0, "Results of jobs are kept so many seconds.", kind="number", low=1, high=604_800, group=_QUEUE
    )
    result_mib: int = option(
        256,
        "Most MiB of results that are kept; the oldest go first.",
        kind="whole",
        low=1,
        high=1 << 20,
        group=_QUEUE,
    )
    max_body_mib: int = option(64, "Most MiB of a request.", kind="whole", low=1, high=4096, group=_LIMITS)
    max_uploads_mib: int = option(
        512, "Most MiB of requests that are being received together.", kind="whole", low=1, high=1 << 20, group=_LIMITS
    )
    max_parts: int = option(64, "Most fields and files of a form.", kind="whole", low=4, high=1000, group=_LIMITS)
    max_prompt: int = option(32_000, "Most characters of a text.", kind="whole", low=1, high=1_000_000, group=_LIMITS)
    header_seconds: float = option(
        10.0, "A request's head must be here within so many seconds.", kind="number", above=0, high=3600, group=_LIMITS
    )
    body_idle_seconds: float = option(
        10.0, "A request's body may pause so many seconds.", kind="number", above=0, high=3600, group=_LIMITS
    )
    body_seconds: float = option(
        300.0,
        "A request's body must be here within so many seconds.",
        kind="number",
        above=0,
        high=86_400,
        group=_LIMITS,
    )
    max_connections: int = option(
        512, "Most connections that are open at once.", kind="whole", low=1, high=100_000, group=_LIMITS
    )
    log_format: LogFormat = option(
        "text", "How the log is written to standard error.", kind="choice", choices=("text", "json"), group=_OBSERVING
    )
    otel: bool = option(
        False,
        "Send spans of requests, queue and device by OpenTelemetry (extra otel); its OTEL_ variables say where to.",
        kind="flag",
        group=_OBSERVING,
    )

    def __post_init__(self) -> None:
        MarkingOptions.__post_init__(self)  # super() does not find it: dataclasses with slots are made twice
        if not (self.is_loopback or self.keys_file or self.insecure):
            raise OptionError(
                f"host is {self.host!r:.60}, which others reach, and there are no keys",
                remedy="Make a key with `pixrt serve --new-key NAME` and give --keys-file FILE, or say --insecure",
                option="host",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the address. A name counts if it is `localhost`: others may change."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names by which the server may be called, in lower case; None for any."""
        names = frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())
        if "*" in names or (not names and (self.keys_file or self.insecure)):
            return None
        return names or frozenset({"localhost", "127.0.0.1", "[::1]", self._spelt_host})

    @property
    def _spelt_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host.lower()
