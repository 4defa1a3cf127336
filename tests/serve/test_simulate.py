"""`pixrt serve --simulate`: traces in every form, devices in every form, and figures that can be checked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.errors import OptionError
from pixrt.serve.devices import DEVICES, stated
from pixrt.serve.simulate import percentile
from pixrt.serve.traces import Traced, read_trace
from shapes import Run

LINES = {
    "jsonl": """
        {"arrival": 2.5, "size": "256x512", "steps": 20, "rows": 2, "slo_ms": 3000, "prompt": "a cat"}
        {"arrival_ms": 1500, "width": 512, "height": 512, "num_inference_steps": 4}
    """,
    "csv": """
        timestamp,width,height,steps,rows,deadline_ms,prompt
        2.5,256,512,20,2,3000,"a cat, sitting"
        1.5,512,512,4,,,
    """,
    "txt": """
        Request(request_id=0, timestamp=2.5, height=512, width=256, num_inference_steps=20, rows=2, slo_ms=3e3)
        Request(request_id=1, timestamp=1.5, height=512, width=512, prompt='it\\'s', num_inference_steps=4)
    """,
}
READ = [Traced(0.0, 512, 512, (3,) * 4, None), Traced(1.0, 256, 512, (2,) * 20, 3.0)]


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", LINES)
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    assert read_trace(trace(tmp_path, LINES[form]), side=64) == READ


def test_what_is_not_said(tmp_path: Path) -> None:
    read = read_trace(trace(tmp_path, '{"steps": 2}\n{"steps": 2, "size": "auto"}'), side=64)
    assert read == [Traced(None, 64, 64, (3, 3), None)] * 2


@pytest.mark.parametrize(
    ("scales", "rows"),
    [
        ({"guidance_scale": 7.5, "image_guidance_scale": 1.5}, 3),
        ({"guidance_scale": 7.5, "image_guidance_scale": 1}, 2),
        ({"guidance_scale": 1, "image_guidance_scale": 1}, 1),
        ({"guidance_scale": 1.5, "image_guidance_scale": 1.5}, 2),
        ({"guidance_scale": 0, "image_guidance_scale": 1.5}, 2),
        ({"guidance_scale": 7.5}, 3),
        ({}, 3),
    ],
)
def test_rows_are_those_that_the_scales_ask_for(scales: dict[str, float], rows: int, tmp_path: Path) -> None:
    read = read_trace(trace(tmp_path, json.dumps({"steps": 1, **scales})), side=64)
    assert read[0].rows == (rows,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no request"),
        ("hello", ":1: this is neither JSON, nor CSV"),
        ('{"steps": 2}\n{"steps": 2', ":2: this cannot be read"),
        ('{"steps": 2}\n[1]', ":2: this is no request"),
        ('{"steps": 0}', "steps is 0"),
        ('{"steps": "many"}', "steps is 'many'"),
        ('{"steps": NaN}', "steps is nan"),
        ("{}", "no steps"),
        ('{"steps": 2, "rows": 4}', "rows is 4"),
        ('{"steps": 2, "size": "512"}', "size is '512'"),
        ('{"steps": 2, "width": 1e9}', "width is"),
        ('{"steps": 2, "arrival": -1}', "arrival is -1"),
        ('{"steps": 2, "arrival": 1}\n{"steps": 2}', "1 of 2 requests have no arrival"),
        ("Request(steps=2)\nRequest(steps=f())", ":2: this cannot be read"),
        ("Request(steps=2)\nos.remove('x')", ":2: this is no request"),
        ("steps\n2\nx", ":3: steps is 'x'"),
    ],
)
def test_what_cannot_be_understood_is_told_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as raised:
        read_trace(trace(tmp_path, text), side=64)
    assert said in str(raised.value)


@given(st.binary(max_size=200))
def test_no_file_breaks_it(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("trace") / "trace"
    path.write_bytes(data)
    try:
        read_trace(path, side=64)
    except OptionError:
        return


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    told = percentile(values, share)
    assert told in values
    assert sum(value <= told for value in values) >= share * len(values)
    assert sum(value < told for value in values) < share * len(values)


def simulated(run: Run, folder: Path, text: str, *words: object) -> tuple[dict[str, Any], str]:
    outcome = run("serve", "--simulate", trace(folder, text), *words, "--json", folder / "report.json", "--overwrite")
    assert (outcome.code, outcome.err) == (0, "")
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report, outcome.out


def test_a_trace_that_fits_one_worker(run: Run, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"arrival": 2 * number, "steps": 20}) for number in range(11))
    report, out = simulated(run, tmp_path, lines, "--curve", "7.5+9.1r")
    alone = 20 * 0.0348 + 4.5 * 0.0116
    (line,) = report["lines"]
    assert line == {
        **{"workers": 1, "p50": pytest.approx(alone), "p99": pytest.approx(alone), "slowdown_p99": pytest.approx(1)},
        **{"per_second": pytest.approx(11 / (20 + alone)), "busy": pytest.approx(11 * alone / (20 + alone))},
        **{"within_3": 1, "refused": 0, "in_time": 1},
    }
    assert report["needed"] == 1
    assert report["load"] == pytest.approx(11 * alone / 20)
    assert "needed: 1 worker," in out


def test_workers_are_added_until_they_are_enough(run: Run, tmp_path: Path) -> None:
    """Where rows cost in proportion, 3.4 times what a worker can do, each within 1.4 times what it takes alone."""
    lines = "\n".join(json.dumps({"arrival": 0.22 * number, "steps": 20, "slo_ms": 1050}) for number in range(60))
    report, _ = simulated(run, tmp_path, lines, "--curve", "proportional")
    assert report["needed"] == 4
    assert sorted(line["workers"] for line in report["lines"]) == [1, 2, 3, 4]
    by_workers = {line["workers"]: line for line in report["lines"]}
    assert by_workers[4]["refused"] == 0
    assert by_workers[1]["refused"] > by_workers[2]["refused"] > by_workers[3]["refused"] > 0
    assert all(line["in_time"] == pytest.approx(1 - line["refused"]) for line in report["lines"]), "none is late"


def test_a_load_stretches_the_trace(run: Run, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"arrival": number, "steps": 20}) for number in range(20))
    report, _ = simulated(run, tmp_path, lines, "--curve", "a100", "--load", 0.3)
    assert report["load"] == pytest.approx(0.3)


def test_a_measured_curve_is_read_again(run: Run, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"steps": 3}) for _ in range(20))
    words: tuple[object, ...] = ("--load", 0.5, "--bundle", "shapes", "--backend", "null")
    for option in ("step_ms=2", "row_ms=1", "encode_ms=1", "decode_ms=2"):
        words += ("--provider-option", option)
    report, out = simulated(run, tmp_path, lines, *words)
    assert "device: this one" in out
    assert report["curve"]["side"] == 64
    assert report["curve"]["steps_ms"]["3"] >= 5
    (tmp_path / "report.json").rename(tmp_path / "curve.json")
    again, _ = simulated(run, tmp_path, lines, "--load", 0.5, "--curve", tmp_path / "curve.json")
    assert again == report


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--curve", "h100"], "a100, 4090, proportional"),
        (["--curve", "0+0"], "a100, 4090, proportional"),
        (["--curve", "none.json"], "no curve in it"),
        (["--curve", "a100"], "--load"),
        (["--curve", "a100", "--load", "0"], "above 0"),
        (["--curve", "a100", "--load", "1", "--json", "/dev/null/where.json"], "where.json"),
        (["--curve", "a100", "--load", "1", "--json", "scene.png"], "scene.png exists already"),
    ],
)
def test_errors_say_what_to_do(words: list[str], said: str, run: Run, tmp_path: Path) -> None:
    outcome = run("serve", "--simulate", trace(tmp_path, '{"steps": 2}'), *words)
    assert outcome.code in (2, 7)
    assert said in outcome.err
    assert outcome.err.startswith("error: ")


@pytest.mark.parametrize("curve", [{}, {"steps_ms": {}}, {"steps_ms": {"0": 1}}, {"steps_ms": {"3": "x"}}, [], 3])
def test_a_broken_curve_is_refused(curve: object, run: Run, tmp_path: Path) -> None:
    rest = {"side": 64, "encode_ms": 1, "decode_ms": 1, "fixed_ms": 0}
    told = {**rest, **curve} if isinstance(curve, dict) else curve
    (tmp_path / "curve.json").write_text(json.dumps({"curve": told}))
    outcome = run("serve", "--simulate", trace(tmp_path, '{"steps": 2}'), "--curve", tmp_path / "curve.json")
    assert outcome.code == 2
    assert "curve.json" in outcome.err


def test_a_step_of_another_size_costs_by_its_area_beyond_what_is_fixed() -> None:
    from pixrt.dispatch.demand import Bucket

    bucket = Bucket("large", 8, 24, area=4.0)
    costs = stated(8.0, 10.0).costs([bucket])
    assert costs.step(bucket, 3) == pytest.approx(0.008 + 4 * 0.03)
    assert DEVICES["proportional"].costs([bucket]).step(bucket, 1) == pytest.approx(4 * 0.0348)
