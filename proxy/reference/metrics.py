"""The reference of all metrics, made from their table."""

from typing import Final

from proxy.telemetry.across_workers import across
from proxy.telemetry.metric_table import METERS, MODELS, PROCESS, SETS, SPREAD, TENANTS


def metrics_page() -> str:
    """Return the reference of all metrics, in Markdown."""
    rows = [
        f"| `{meter.name}` | {meter.kind} | {', '.join(f'`{label}`' for label in meter.labels)} | {across(meter)} | "
        f"{meter.help} |"
        for meter in (*METERS, *PROCESS)
    ]
    return _PAGE.format(rows="\n".join(rows), models=MODELS, tenants=TENANTS, sets=SETS, spread=SPREAD)


_PAGE: Final = """\
# Metrics

Generated from `proxy/telemetry/metric_table.py` by `scripts/generate`; not to be edited here. What they are good for
says the [guide](../guides/metrics.md).

Labels whose values come from outside are bounded. A model is told apart where a backend has it, or answered for it;
{models} models and {tenants} tenants are told apart, and a metric has {sets} sets of label values at most, a histogram
{spread}. All beyond that counts as `other`.

Where several [workers](../guides/workers.md) serve, each of them answers for all: with the sum of their values, the
largest, or the smallest.

| metric | type | labels | of several workers | what it says |
|---|---|---|---|---|
{rows}
"""
