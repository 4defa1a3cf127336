"""NVIDIA AIPerf: `--endpoint-type image_edit`, with a tokenizer of its own in a folder, and what its report says."""

import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from calls import BLUE, SCENE, Same, Server, expect, make
from tokenizers import Tokenizer, models, pre_tokenizers

REQUESTS = 6


def profile(server: Server) -> Iterator[Same]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = folder / "inputs.jsonl"
        inputs.write_text(json.dumps({"type": "single_turn", "text": BLUE, "image": str(SCENE)}) + "\n")
        command = [
            *(str(Path(sys.executable).parent / "aiperf"), "profile", "--endpoint-type", "image_edit"),
            *("--model", server.model, "--url", server.url, "--api-key", server.key),
            *("--input-file", str(inputs), "--custom-dataset-type", "single_turn"),
            *("--tokenizer", str(tokenizer(folder / "tokenizer"))),
            *("--request-count", str(REQUESTS), "--concurrency", "3"),
            *("--extra-inputs", "seed:7", "--extra-inputs", "num_inference_steps:4"),
            *("--artifact-dir", str(folder / "report"), "--export-level", "raw", "--ui", "none", "--no-gpu-telemetry"),
        ]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if run.returncode:
            raise AssertionError(f"aiperf ended with {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}")
        report = json.loads((folder / "report" / "profile_export_aiperf.json").read_text())
        expect("the requests that AIPerf counts", report["request_count"]["avg"], REQUESTS)
        expect("its errors", report["error_summary"], [])
        scraped = (folder / "report" / "server_metrics_export.json").read_text()
        expect("whether it has read /metrics", "pixrt_" in scraped, True)
        for line in (folder / "report" / "profile_export_raw.jsonl").read_text().splitlines():
            answer = json.loads(json.loads(line)["responses"][0]["text"])
            yield Same(base64.b64decode(answer["data"][0]["b64_json"]), parameters={"seed": 7, "steps": 4})


def tokenizer(folder: Path) -> Path:
    """AIPerf counts tokens by a tokenizer out of the network; a folder of words does as well."""
    folder.mkdir()
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


if __name__ == "__main__":
    make({"profile": profile})
