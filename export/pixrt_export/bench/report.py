"""The page of `pixrt bench --html`: tables and plots in one file that loads nothing. Must not import PyTorch."""

import io
import json
from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.figure import Figure

_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}pre{white-space:pre-wrap}"
)
_COLUMNS = ("p50", "p90", "p99", "least", "most")


def page(facts: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The HTML text, of the facts that `--json` writes; `labels` say what the stages are."""
    stages = {labels[name]: spread for name, spread in facts["stages_ms"].items()}
    title = escape(f"{facts['model']}, {facts['size']} px, {facts['steps']} steps, {facts['backend']}")
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{spread[each]:.3f}</td>' for each in _COLUMNS)}</tr>"
        for name, spread in stages.items()
    )
    rest = {name: value for name, value in facts.items() if name not in ("stages_ms", "steps_ms")}
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><table><tr><th>ms</th>{''.join(f'<th>{each}</th>' for each in _COLUMNS)}</tr>{rows}</table>"
        f"{_svg(_draw_stages(stages))}{_svg(_draw_steps(facts['steps_ms']))}"
        f"<h2>All else that was measured, and on what</h2><pre>{escape(json.dumps(rest, indent=1))}</pre></html>\n"
    )


def _draw_stages(stages: Mapping[str, Mapping[str, float]]) -> Figure:
    """The median of every stage, with a whisker to the 90th percentile."""
    figure = Figure((9, 0.4 * len(stages) + 1), layout="constrained")
    axes = figure.add_subplot(xlabel="ms, median, and up to the 90th percentile", xscale="log")
    medians = [spread["p50"] for spread in stages.values()]
    above = [spread["p90"] - spread["p50"] for spread in stages.values()]
    axes.barh([*stages], medians, xerr=([0.0] * len(above), above), color="tab:blue", ecolor="tab:orange")
    axes.invert_yaxis()
    return figure


def _draw_steps(edits: list[list[float]]) -> Figure:
    """Every step of every edit, in the order in which they ran."""
    figure = Figure((9, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="step, from the second on; a line for each edit", ylabel="ms")
    for steps in edits:
        axes.plot(range(2, len(steps) + 2), steps, marker=".", linewidth=0.7)
    axes.set_ylim(bottom=0)
    return figure


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg")
    text = file.getvalue()
    return text[text.index("<svg") :]  # what stands before it names a document type elsewhere
