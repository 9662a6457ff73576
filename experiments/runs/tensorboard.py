"""What a run looks like in TensorBoard, as it goes.

    with watching(Path("logs"), "row_01_seed_123") as watch:
        watch("loss", 50, 1.0, 1.2)

TensorBoard is no requirement: without `--tensorboard` nothing of it is imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.config.flags import design_of
from experiments.config.rows import name_of_row
from experiments.config.settings import Settings
from experiments.training.optimization import Watch, nobody


@contextmanager
def watching(folder: Path | None, name: str) -> Iterator[Watch]:
    """Gives a function that writes a value of training and of validation for TensorBoard.

    What an earlier run of that name wrote is shown no more.

    Args:
        folder: of all runs; None where nobody watches.
        name: of the run.
    """
    if folder is None:
        yield nobody
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / name, purge_step=0) as writer:

        def watch(what: str, when: int, training: float, validation: float) -> None:
            writer.add_scalar(f"{what}/training", training, when)
            writer.add_scalar(f"{what}/validation", validation, when)
            writer.flush()

        yield watch


def name_of_run(settings: Settings, record: str | None) -> str:
    """Returns what a run is called there.

    Args:
        settings: of one seed.
        record: digest of its record, if it leaves one.
    """
    name = name_of_row(design_of(settings)).replace(" ", "_")
    return "_".join([name, f"seed_{settings.seed}", *([record[:12]] if record else [])])
