"""The end of stage 1: features reduced to principal axes, for the rows of the sweep that ask for them."""

from pipeline.config import Config
from pipeline.data import Data
from pipeline.plan import divisions_of, projection_of
from pipeline.rows import sweep_rows
from pipeline.workdir import WorkDir
from temporal.data.projection import Projection, locate


def projections(config: Config) -> list[Projection]:
    """Returns the reductions that the rows of an experiment ask for, each once."""
    rows = sweep_rows(config) if config.sweep else ()
    asked = (projection_of(row.training) for row in rows)
    return list(dict.fromkeys(one for one in asked if one is not None))


def make_reduced(config: Config, place: WorkDir, data: Data) -> None:
    """Writes whatever is missing of the reduced features that the rows of the sweep read.

    Args:
        config: the experiment.
        place: where it is.
        data: its stores.

    Raises:
        ConfigError: the features have fewer principal axes than a row asks for.
        StoreError: the reduced features cannot be written, or what is there is damaged.
    """
    for division in divisions_of(config, data):
        found = [
            (name, locate(store, data.labels, division.splits, place.reductions, projection))
            for projection in projections(config)
            for name, store in data.streams.items()
        ]
        if todo := [(name, reduced) for name, reduced in found if reduced.missing()]:
            from pipeline.device import resolve_device
            from temporal.data.bank import load_bank
            from temporal.data.reduced import write_reduced

            device = resolve_device(config.training.device)
            bank = load_bank(
                data.streams,
                data.labels,
                division=division.splits,
                device=device,
                placement=config.training.bank,
            )
            for name, reduced in todo:
                write_reduced(bank, name, reduced)
