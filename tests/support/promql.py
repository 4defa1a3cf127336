"""What a query of Prometheus names: metrics, labels, values; and which labels its answer has."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import promql_parser as promql

Labels = Mapping[str, set[str]]
TARGET = {"job", "instance"}  # that Prometheus adds to every metric of a target


@dataclass(frozen=True)
class Known:
    """Metrics that there are, each with its labels, and with values that these have had."""

    metrics: Mapping[str, Labels]

    def answer_of(self, query: promql.Expr) -> set[str]:
        """The labels of a query's answer. AssertionError for a metric or a label that there is not."""
        match query:
            case promql.VectorSelector():
                return self._selected(query)
            case promql.MatrixSelector():
                return self._selected(query.vector_selector)
            case promql.AggregateExpr():
                return self._aggregated(query)
            case promql.BinaryExpr():
                return self._joined(query)
            case promql.Call():
                given = [self.answer_of(each) for each in query.args]
                dropped = {"le"} if query.func.name == "histogram_quantile" else set()
                return set().union(*given) - dropped
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self.answer_of(query.expr)
            case promql.NumberLiteral() | promql.StringLiteral():
                return set()
        raise AssertionError(f"{query}: a {type(query).__name__}, which nobody has thought of")

    def _selected(self, selector: promql.VectorSelector) -> set[str]:
        assert selector.name in self.metrics, f"{selector}: there is no such metric"
        labels = self.metrics[selector.name]
        for each in selector.matchers.matchers:
            if each.name in TARGET:
                continue
            assert each.name in labels, f"{selector}: it has no label {each.name}"
            for value in values_of(each):
                assert value in labels[each.name], f"{selector}: {each.name} is never {value}"
        return TARGET | set(labels)

    def _aggregated(self, query: promql.AggregateExpr) -> set[str]:
        had = self.answer_of(query.expr)
        if query.modifier is None:
            return set()
        named = set(query.modifier.labels)
        assert named <= had, f"{query}: nothing there has the labels {named - had}"
        return named if query.modifier.type == promql.AggModifierType.By else had - named

    def _joined(self, query: promql.BinaryExpr) -> set[str]:
        left, right = self.answer_of(query.lhs), self.answer_of(query.rhs)
        matching = None if query.modifier is None else query.modifier.matching
        scalars = (promql.NumberLiteral, promql.StringLiteral)
        if matching is None and not isinstance(query.lhs, scalars) and not isinstance(query.rhs, scalars):
            assert left == right or str(query.op) == "or", f"{query}: {left} on the left, {right} on the right"
        if matching is not None:
            assert set(matching.labels) <= left & right, f"{query}: not both sides have {matching.labels}"
        return right if isinstance(query.lhs, scalars) else left


def values_of(matcher: promql.Matcher) -> Iterator[str]:
    """Plain values that a matcher names; a pattern's alternatives, as far as they are plain, and no variables."""
    for value in matcher.value.split("|"):
        if re.fullmatch(r"\w+(\.\d+)?", value):
            yield value


def names_of(query: promql.Expr) -> set[str]:
    """Metrics that a query names."""
    found: set[str] = set()

    def visit(each: promql.Expr) -> None:
        if isinstance(each, promql.VectorSelector):
            found.add(str(each.name))

    promql.walk(query, pre_visit=visit)
    return found
