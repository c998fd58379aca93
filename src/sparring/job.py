"""What a run is asked to do, as it stands in its run.yaml."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sparring.errors import UserError, unknown
from sparring.files import write_text

SHORT = ("rounds", "epochs", "batch")  # hyper-parameters of every recipe that have their own options


class Job(BaseModel):
    """A training, described completely: the same job on the same machine ends with the same weights.

    `data` is a path or a name, see `sparring.data`; so are `partner`, images of a second domain, and `outliers`,
    examples of what does not belong. `domains` makes two domains of `data` alone, see `sparring.data.domains`.
    `text` is the encoder of captions, see `sparring.text`. `normal` names the classes that count as normal.
    `backbone` names a network, and `layer` a layer of it, whose features of images are learnt from; `known` the classes
    of an open-set model. Which of its weights are kept is decided by the examples of other classes in
    `open_validation`, or else as `select` says: by made ones, or classes left out in turn; where it is empty, by a part
    of the outliers, or made ones where there are none. A split may stand behind these two: "photos@train[:500]".
    `recipe` holds every hyper-parameter of the model; `checkpoint_seconds` pass between checkpoints. Every
    `judge_every` rounds a generator is measured on examples held out of training; `keep_best` ends with the weights
    that were best there. A detector is calibrated on a fifth of its normal examples, held out of training; without
    `hold_out` it learns from all of them, and `calibrate` has to give it others before it judges.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    data: str = "digits"
    partner: str | None = None
    domains: str | None = None
    outliers: str | None = None
    text: str | None = None
    open_validation: str | None = None
    backbone: str | None = None
    layer: str | None = None
    select: Literal["synthetic", "classes"] | None = None
    variant: str = "default"
    split: str | None = "train"
    size: int | None = Field(None, ge=1)
    tile: int | None = Field(None, ge=1)
    overlap: int | None = Field(None, ge=0)
    roi: str | None = None
    channels: Literal[1, 3] | None = None
    normal: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    limit: int | None = Field(None, ge=1)
    strict: bool = False
    seed: int = Field(0, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    precision: Literal["32", "bf16"] = "32"
    compile: bool = False
    tensorboard: bool = False
    checkpoint_seconds: float = Field(60.0, ge=0, allow_inf_nan=False)
    judge_every: int | None = Field(None, ge=1)
    keep_best: bool = False
    hold_out: bool = True
    recipe: dict[str, Any] = Field(default_factory=dict)

    @field_validator("normal", "classes", "known", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Take what a YAML file may hold for class names: 0, "0,3" or [0, 3]."""
        values = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
        return tuple(str(name).strip() for name in values if name is not None and str(name).strip())

    @field_validator("precision", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


def check(values: dict[str, Any], where: str = "") -> Job:
    """Validate untyped values as a Job.

    Raises:
        UserError: One sentence on the first value that is wrong; a misspelt key gets its closest match.
    """
    for key in values:
        if key not in Job.model_fields:
            raise unknown(f"setting{where}", str(key), Job.model_fields)
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"The setting '{name}'{where} cannot be {first.get('input')!r}: {first['msg']}.") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no file '{path}': give the path of a YAML file.") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        what = " ".join(str(error).split())
        raise UserError(f"'{path}' is not readable as YAML ({what}): mend it.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds a {type(content).__name__} where settings by name are wanted: 'key: value'.")
    return content


def assignment(text: str) -> tuple[str, Any]:
    """Read "key=value", the value as YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set takes key=value, such as --set latent=64; got '{text}'.")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError of a date that there is not
        raise UserError(f"The value in --set {text} is not readable as YAML: mend it, or quote it.") from None


def configured(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the settings and the recipe in a file of --config."""
    settings = read_yaml(path)
    recipe = settings.pop("recipe", None) or {}
    if not isinstance(recipe, dict):
        raise UserError(f"The 'recipe' in '{path}' must be hyper-parameters by name, 'key: value'; got {recipe!r}.")
    recipe |= {name: settings.pop(name) for name in SHORT if name in settings}
    if not isinstance(settings.get("out", ""), str):
        raise UserError(f"The 'out' in '{path}' must be the path of a folder; got {settings['out']!r}.")
    for key in settings:
        if key not in Job.model_fields and key != "out":
            raise unknown("setting", str(key), (*Job.model_fields, "out", *SHORT))
    return settings, recipe


def write_run(folder: Path, job: Job, facts: dict[str, Any]) -> None:
    """Write run.yaml: the job, then what is known about the machine and the data."""
    text = yaml.safe_dump({"job": job.model_dump(mode="json"), "facts": facts}, sort_keys=False, allow_unicode=True)
    write_text(folder / "run.yaml", text)


def read_run(folder: Path) -> tuple[Job, dict[str, Any]]:
    """Read run.yaml back.

    Raises:
        UserError: For a folder that is not a run.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        what = "is not a run (it has no run.yaml)" if folder.is_dir() else "does not exist"
        raise UserError(f"'{folder}' {what}: give a folder that `sparring train` has written.")
    content = read_yaml(path)
    facts = content.get("facts")
    if not isinstance(content.get("job"), dict) or not isinstance(facts, dict) or "spec" not in facts:
        raise UserError(f"'{path}' does not describe a run: give a folder that `sparring train` has written.")
    return check(content["job"], f" of {path}"), facts


def surroundings() -> dict[str, Any]:
    """Versions, processor and git commit, for the record."""
    versions = {name: metadata.version(name) for name in ("sparring", "torch", "numpy", "lightning-fabric")}
    return {"versions": {"python": platform.python_version(), **versions}, "machine": machine(), "git": commit()}


def machine() -> str:
    """Name the processor and the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = f"{len(names)} x {names[0]}" if names else platform.processor()
    except OSError:
        processor = platform.processor()
    return f"{processor}, {platform.system()}"


def commit() -> str | None:
    """The git commit of the working folder, with '+' where files differ from it; None outside git."""
    try:
        ask = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
