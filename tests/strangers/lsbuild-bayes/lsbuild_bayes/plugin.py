"""The compile half of `inline::bayes`: declares a step and a service; it reads nothing and runs nothing."""

from lsbuild.api import Compiled, Plugin, Problem, Service, Step


class Bayes(Plugin):
    provider = "inline::bayes"
    kinds = ("shields",)

    def check(self, item):
        if item.spec.source is None:
            yield Problem(("source",), "name a .jsonl file with examples")

    def sources(self, item):
        return {"examples": item.spec.source}

    def compile(self, item, given):
        name, path, entry = f"shields.{item.name}", f"shields/{item.name}", "lsbuild_bayes.serve:open_shield"
        step = Step(name, run="lsbuild_bayes.compile:run", sources=given.sources, ship=path)
        service = Service(api="safety", name=item.name, provider=self.provider, entry=entry, path=path)
        return Compiled(steps=(step,), services=(service,), code=("lsbuild_bayes.serve",))


PLUGIN = Bayes()
