"""`inline::rules` for the builder: declares the step and the service of a shield; it runs nothing.

Of its packs, shipped ones and those of the spec, it reads which checks of numbers they name: these ship.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Compiled, Given, Item, Plugin, Problem, Service, Step, config_problems
from lsbuild.declaring import RE2
from lsbuild.spec.model import Shield
from lsbuild_plugins.rules.compile import pack
from lsbuild_plugins.rules.serve.validate import OWN

_SERVE = "lsbuild_plugins.rules.serve"
_STDNUM = "python-stdnum>=2.2"
_LITERALS = "ahocorasick-rs>=1.0.3"
_PACKS = Path(__file__).parent / "packs"
_VALIDATOR = re.compile(r"""\bvalidator["']?\s*:\s*["']?([a-z0-9_.-]+)""")
_PUT_TOGETHER = frozenset(("iban", "vatin", "eu.vat", "eu.excise", "eu.nace", "gs1_128"))
"""Modules of stdnum that import others by names which they put together."""
LABELLED = "labelled"
"""The local name of the user's messages among the sources."""
SHIPPED = ("pii", "secrets", "prompt-injection", "profanity", "self-harm", "violence", "off-topic")
"""The packs that ship with lsbuild."""


Share = Annotated[float, Field(ge=0, le=1)]
Gate = Share | dict[str, Share]


class Config(BaseModel):
    """Settings of a shield under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    packs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Packs of rules: names of shipped ones (``pii``), and .yaml files relative to the spec."""
    actions: dict[str, Literal["block", "redact", "warn", "off"]] = {}
    """What a category of the packs leads to, instead of what the pack says; ``off`` leaves it out."""
    countries: tuple[Annotated[str, Field(pattern="^[a-z]{2}$")], ...] | None = None
    """The countries whose rules are compiled in, as codes of ISO 3166-1 (``[us, de]``). Default: all that the packs have."""
    labelled: str | None = None
    """A file of messages with the categories that they have (.jsonl or .yaml, relative to the spec), measured at build."""
    min_precision: Gate | None = None
    """The least share of what is found that has to be right: one for every category, or one by category. It is held against
    the messages of ``labelled``, or against those that ship with lsbuild; the build fails below it."""
    min_recall: Gate | None = None
    """The least share of what is there that has to be found, as ``min_precision``."""


class RulesPlugin(Plugin):
    """The compile half of `inline::rules`."""

    provider = "inline::rules"
    kinds = ("shields",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config``, and packs that are neither shipped nor files."""
        if faults := config_problems(Config, _spec(item).config):
            yield from faults
            return
        packs = _config(item).packs
        for place, name in enumerate(packs):
            if name not in SHIPPED and not _is_file(name):
                known = ", ".join(SHIPPED)
                yield Problem(("config", "packs", place), f"'{name}' is neither a .yaml file nor one of {known}")
            if name in packs[:place]:
                yield Problem(("config", "packs", place), f"'{name}' is named twice")
        labelled = _config(item).labelled
        if labelled is not None and not labelled.endswith((".jsonl", ".yaml", ".yml")):
            yield Problem(("config", "labelled"), f"'{labelled}' is neither a .jsonl nor a .yaml file")

    def sources(self, item: Item) -> Mapping[str, str]:
        """The packs that are files, and the labelled messages."""
        config = _config(item)
        packs = {name: name for name in config.packs if name not in SHIPPED}
        return packs | ({LABELLED: config.labelled} if config.labelled is not None else {})

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step that writes the compiled rules, one service."""
        config = _config(item)
        numbers = _numbers(config, given)
        gates = {"precision": config.min_precision, "recall": config.min_recall}
        folder = f"shields/{item.name}"
        step = Step(
            name=f"shields.{item.name}.rules",
            run="lsbuild_plugins.rules.compile.step:run",
            options={
                "packs": list(config.packs),
                "actions": dict(config.actions),
                "countries": _listed(config.countries),
                "gates": {name: gate for name, gate in gates.items() if gate is not None},
            },
            sources={name: given.sources[name] for name in self.sources(item)},
            tools=("ahocorasick-rs", "google-re2", "python-stdnum", "ruamel.yaml"),
            code=("lsbuild_plugins.rules", "lsbuild.entries"),
            ship=folder,
            part="app",
        )
        service = Service(
            api="safety",
            name=item.name,
            provider=item.provider,
            entry=f"{_SERVE}:open_shield",
            path=folder,
            metadata={"packs": [Path(name).name for name in config.packs]},
        )
        wheels = (RE2, *((_STDNUM,) if numbers else ()), *((_LITERALS,) if _long(given) else ()))
        only = {"python-stdnum": tuple(f"stdnum.{name}" for name in numbers)} if numbers else {}
        whole = _PUT_TOGETHER & set(numbers)
        return Compiled((step,), (service,), wheels, (_SERVE,), only={} if whole else only)


PLUGIN = RulesPlugin()


def _spec(item: Item) -> Shield:
    return cast("Shield", item.spec)


def _config(item: Item) -> Config:
    return Config.model_validate(_spec(item).config)


def _listed(countries: tuple[str, ...] | None) -> list[str] | None:
    return None if countries is None else sorted(set(countries))


def _numbers(config: Config, given: Given) -> tuple[str, ...]:
    """The modules of stdnum that the rules name: of the shipped packs those of the countries, of others all."""
    chosen = config.countries
    found: set[str] = set()
    for name in config.packs:
        shipped = name in SHIPPED
        files = [_PACKS / f"{name}.yaml"] if shipped else [file.location for file in given.sources[name].files]
        names = {each for file in files for each in _VALIDATOR.findall(file.read_text("utf-8", "replace"))}
        # In a shipped pack a check is of the country that its rule is of.
        found |= {
            each for each in names if not shipped or chosen is None or each.partition(".")[0].strip("_") in chosen
        }
    return tuple(sorted(found - OWN.keys()))


def _long(given: Given) -> bool:
    """Whether a pack of the spec has a list so long that the step leaves it to Aho-Corasick; no shipped one has."""
    files = {file.location: name for name, source in given.sources.items() if name != LABELLED for file in source.files}
    return any(_many(path) and any(rule.long for rule in pack.read(path, name).rules) for path, name in files.items())


def _many(path: Path) -> bool:
    """Whether a pack could have a long list: each of its words ends a line or stands before a comma."""
    text = path.read_text("utf-8", "replace")
    return text.count("\n") + text.count(",") >= pack.LONG


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))
