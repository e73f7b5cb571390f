"""The compile half: one step for each model, which writes what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lsbuild.api import Compiled, Given, Item, Problem, Step


class Echo:
    """``inline::echo`` for models; ``config.needs`` names other models whose output is read."""

    provider = "inline::echo"
    kinds = ("models",)

    def check(self, item: Item) -> Iterable[Problem]:
        """``config.bad`` is a fault."""
        if self._config(item).get("bad"):
            yield Problem(("config", "bad"), "is bad")

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """The models in ``config.needs``."""
        return [("models", str(name)) for name in self._config(item).get("needs", [])]

    def sources(self, item: Item) -> Mapping[str, str]:
        """The model's source, when it has one."""
        source = getattr(item.spec, "source", None)
        return {"source": source} if source else {}

    def compile(self, item: Item, given: Given) -> Compiled:
        """One step."""
        needs = {name: peer.steps[0].name for (_, name), peer in given.peers.items()}
        step = Step(
            name=f"models.{item.name}",
            run="echo_plugin.steps:echo",
            options={key: value for key, value in self._config(item).items() if key != "needs"},
            sources=given.sources,
            needs=needs,
            ship=f"models/{item.name}",
        )
        return Compiled(steps=(step,))

    def _config(self, item: Item) -> dict[str, object]:
        return dict(getattr(item.spec, "config", {}))


PLUGIN = Echo()
