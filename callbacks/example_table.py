"""Named values, one line an example, exact over batches of any size and over processes. Knows no metric by name."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class ExampleTable(Metric):
    """Collects columns of per-example values and gives them back for all examples, sorted by row number.

    Whatever is computed from it is over examples, never a mean of batch means, and does not depend on how the
    examples were dealt out to batches and processes.
    """

    full_state_update = False
    rows: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, rows: Tensor, columns: dict[str, Tensor]) -> None:
        """Add B examples.

        Args:
            rows: (B,) row numbers.
            columns: name -> (B,) values; the same names in every call.
        """
        self.names = tuple(columns)
        self.rows.append(rows)
        self.values.append(torch.stack([column.detach().float() for column in columns.values()], -1))

    def compute(self) -> Tensor:
        """(n, 1 + columns) float64 on the CPU: row number and values of all examples, sorted by row."""
        rows = dim_zero_cat(self.rows).reshape(-1, 1).cpu().double()
        values = dim_zero_cat(self.values).cpu().double()
        table = torch.cat([rows, values], -1)
        return table[torch.argsort(rows.flatten(), stable=True)]

    def columns(self) -> dict[str, Tensor]:
        """name -> (n,) values of all examples of all processes, sorted by row; row numbers as "row"."""
        return dict(zip(("row", *self.names), self.compute().unbind(-1), strict=True))
