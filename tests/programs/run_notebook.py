"""Runs a notebook in a real IPython kernel, as a SageMaker notebook job does, and writes what its cells printed."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BEGIN = """
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from lightning.pytorch import LightningModule, Trainer

    class Model(LightningModule):
        fails = False

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, index):
            if self.fails and self.global_rank == 1:
                raise KeyError("age")
            return self.layer(batch[0]).pow(2).mean()

        def test_step(self, batch, index):
            self.log("loss", self.layer(batch[0]).mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def make(**given):
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        return Trainer(accelerator="cpu", max_epochs=1, **quiet, **given)

    def fit(trainer, fails=False):
        model = Model()
        model.fails = fails
        trainer.fit(model, data)
        print("RESULT", trainer.world_size, model.layer.weight.tolist())

    data = DataLoader(TensorDataset(torch.arange(32.0).reshape(8, 4) / 32))
"""
CELLS = {
    "imports": BEGIN,
    "Trainer chooses": "fit(make(devices=2))",
    "ddp_notebook": "fit(make(devices=2, strategy='ddp_notebook'))",
    "exception": "fit(make(devices=2, strategy='ddp_notebook'), fails=True)",
    "after it": "fit(make(devices=2, strategy='ddp_notebook'))",
    "one device": """
        one = make(devices=1, num_nodes=1)
        print("RESULT", one.world_size, one.test(Model(), data, verbose=False))
    """,
    "ddp": "make(devices=2, strategy='ddp')",
    "ddp_spawn": "make(devices=2, strategy='ddp_spawn')",
}


def main() -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in CELLS.values()]
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=200).execute()
    found = {}
    for name, cell in zip(CELLS, notebook.cells, strict=True):
        errors = [f"{output.ename}: {output.evalue}" for output in cell.outputs if output.output_type == "error"]
        text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        found[name] = errors or [line for line in text.splitlines() if line.startswith("RESULT")]
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
