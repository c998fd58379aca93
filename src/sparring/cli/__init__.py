"""The command line. Results go to standard output, everything else to standard error.

Nothing here imports PyTorch before a verb needs it, so that help is fast.
"""

from __future__ import annotations

import json

import tyro

from sparring.cli.catalogue import Models, Recipe
from sparring.cli.comparing import Compare, Reproduce
from sparring.cli.judging import Calibrate, Evaluate, Score
from sparring.cli.making import Filters, Forget, Probe, Sample, Translate
from sparring.cli.open_set import Features
from sparring.cli.training import Demo, Train
from sparring.cli.words import say
from sparring.errors import NonFinite, UserError, enough_memory

VERBS = {
    "models": Models, "recipe": Recipe, "train": Train, "sample": Sample, "score": Score, "evaluate": Evaluate,
    "calibrate": Calibrate, "compare": Compare, "reproduce": Reproduce, "probe": Probe, "filters": Filters,
    "features": Features, "forget": Forget, "translate": Translate, "demo": Demo,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exit status: 0 done, 2 the user's input, 1 anything else."""
    app = tyro.extras.SubcommandApp()
    for name, verb in VERBS.items():
        app.command(name=name)(verb)
    verb = app.cli(
        args=arguments, prog="sparring", description="Adversarial models: make images, and tell what was never seen.",
        config=(tyro.conf.FlagCreatePairsOff,), use_underscores=False,
    )  # fmt: skip
    try:
        with enough_memory():
            found = verb()
    except UserError as error:
        say(f"sparring: {error}")
        raise SystemExit(2) from None
    except NonFinite as error:
        say(f"sparring: {error}")
        raise SystemExit(1) from None
    except KeyboardInterrupt as error:
        say(f"sparring: {str(error) or 'interrupted.'}")
        raise SystemExit(1) from None
    if verb.json:
        print(json.dumps(found))
