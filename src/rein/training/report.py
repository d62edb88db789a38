"""What a running training tells, kept as scalars that TensorBoard draws: `tensorboard --logdir FOLDER`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

from rein.errors import require
from rein.training.loop import Report


def scalars(reports: Iterable[Report], folder: Path) -> Generator[Report, None, None]:
    """Write every report's numbers into an event file in `folder` and pass the report on.

    Tags: `loss/...` for each loss, `rate`, `pictures_per_second`, and `held_out/...` for what was validated. A resumed
    run adds a file; steps that it does again replace those in the file before.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    require("tensorboard", "train")
    from torch.utils.tensorboard import SummaryWriter

    writer: SummaryWriter | None = None
    try:
        for report in reports:
            if writer is None:
                writer = SummaryWriter(str(folder), purge_step=report.step)
            for tag, value in _numbers(report).items():
                writer.add_scalar(tag, value, report.step)
            if report.saved:
                writer.flush()
            yield report
    finally:
        if writer is not None:
            writer.close()


def _numbers(report: Report) -> dict[str, float]:
    """A report's scalars by tag."""
    losses = {f"loss/{name}": value for name, value in report.losses.items()}
    held_out = {f"held_out/{name}": value for name, value in report.validation.items()}
    return losses | held_out | {"rate": report.learning_rate, "pictures_per_second": report.pictures_per_second}
