"""``headcount units``: what could go from a model."""

from rich.console import Console
from transformers import AutoModel

from headcount.architectures.discover import units as find_units
from headcount.checkpoints.disk import expanded_name
from headcount.checkpoints.loading import loading
from headcount.cli import options
from headcount.cli.show import clean_errors, unit_table

console = Console()


def units_command(model: options.Model) -> None:
    """List the units of a model that can be removed, with the cost of each.

    [bold]Example[/]

      headcount units bert-base-uncased
    """
    with clean_errors(console):
        model = expanded_name(model)
        with loading(model):
            loaded = AutoModel.from_pretrained(model, trust_remote_code=False)
        table = find_units(loaded)
        console.print(unit_table(table, sum(p.numel() for p in loaded.parameters())))
