"""What there is to train."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from tyro.conf import Positional, arg

from sparring.cli.words import Output


@dataclass
class Models:
    """List the models: paper, what they do, and what data they need."""

    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import models

        entries = [models.find(name) for name in models.names()]
        found = {
            entry.name: {
                "about": entry.about, "paper": entry.reference, "needs": list(entry.game.needs),
                "variants": list(entry.variants),
            }
            for entry in entries
        }  # fmt: skip
        if not self.json:
            from sparring.show import show_models

            show_models(found)
        return {"models": found}


@dataclass
class Recipe:
    """Show every hyper-parameter of a model: value, the paper's symbol, its place in the paper."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    variant: Annotated[str | None, arg(metavar="TEXT", help="By default the paper's.")] = None
    yaml: Annotated[bool, arg(help="Print YAML that `train --config` reads.")] = False
    json: Output = False

    def __call__(self) -> dict[str, Any]:
        from sparring import models

        entry = models.find(self.model)
        variant = self.variant or "default"
        recipe = entry.variant(variant)
        values = recipe.as_dict()
        if self.yaml:
            import yaml

            print(yaml.safe_dump({"recipe": values}, sort_keys=False), end="")
        elif not self.json:
            from sparring.show import show_recipe

            rows = [(f.name, values[f.name], f.metadata["symbol"], f.metadata["place"]) for f in fields(recipe)]
            others = [name for name in entry.variants if name != variant]
            show_recipe(entry.name, variant, others, entry.reference, rows)
        return {"model": entry.name, "variant": variant, "recipe": values}
