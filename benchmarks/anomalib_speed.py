"""Time anomalib's own GANomaly on the same images, by its own engine; run by speed.py in anomalib's environment."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Ganomaly
from lightning.pytorch.callbacks import Callback

WARM = 3
SIDE, BATCH = 32, 64


class Clock(Callback):
    """Note when each training batch ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--case", "--side", "--folder", "--rounds"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rounds, clock = int(arguments.rounds), Clock()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "data" / "good"
        shutil.copytree(arguments.folder, images)
        data = Folder(
            name="digits", root=Path(folder) / "data", normal_dir="good", train_batch_size=BATCH,
            eval_batch_size=BATCH, num_workers=2, test_split_mode="none", val_split_mode="none",
        )  # fmt: skip
        model = Ganomaly(
            batch_size=BATCH, pre_processor=Ganomaly.configure_pre_processor((SIDE, SIDE)), evaluator=False,
            visualizer=False,
        )  # fmt: skip
        engine = Engine(
            max_steps=2 * (rounds + WARM), max_epochs=-1, accelerator="cpu", devices=1, callbacks=[clock],
            default_root_dir=folder, enable_progress_bar=False, limit_val_batches=0,
        )  # fmt: skip
        engine.fit(model, datamodule=data)
    timed = clock.ends[WARM - 1 :]
    seconds = timed[-1] - timed[0]
    found = {"images_per_second": (len(timed) - 1) * BATCH / seconds, "rounds": len(timed) - 1}
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
