"""The results as a plot: how each workload compares with a call that does nothing."""

from collections.abc import Sequence
from pathlib import Path

from measure import Result
from sides import OFF, SHIPS
from workloads import GRPC_AIO


def plot(path: Path, results: Sequence[Result]) -> None:
    """Draw the ratios to the empty grpc.aio server as an SVG file; without any, draw nothing."""
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "entitlements"
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of backend

    bars = [
        (result.workload.name, f"{side}, {result.stored:,} stored", ratio)
        for result in results
        if not result.workload.rps and result.workload.charges == 1
        for side in (SHIPS, OFF)
        if (ratio := result.ratio(side, GRPC_AIO)) is not None
    ]
    if not bars:
        return
    names = list(dict.fromkeys(name for name, _, _ in bars))
    kinds = list(dict.fromkeys(kind for _, kind, _ in bars))
    figure, axes = plt.subplots(figsize=(9, 0.7 * len(names) + 1.6), layout="constrained")
    height = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        own = [(names.index(name), ratio) for name, which, ratio in bars if which == kind]
        heights = [index + (number - (len(kinds) - 1) / 2) * height for index, _ in own]
        drawn = axes.barh(heights, [ratio for _, ratio in own], height * 0.9, label=kind)
        axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("calls per second ÷ those of an empty grpc.aio server on uvloop")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
