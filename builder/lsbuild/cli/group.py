"""The group of all commands; a spec without a word before it is built."""

from __future__ import annotations

import click

from lsbuild import __version__


class DefaultBuild(click.Group):
    """A group whose default command is ``build``: ``lsbuild --target T spec.yaml`` needs no word before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``build`` in front when the first word is neither a command nor one of the group's own options."""
        own = {"--help", "-h", "--version"}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["build", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultBuild, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lsbuild")
def main() -> None:
    """Compile a distribution spec into the smallest artifact that serves it.

    \b
      lsbuild spec.yaml                      compile for this machine
      lsbuild --target container spec.yaml   compile a container image
      lsbuild run spec.yaml                  compile and serve until Ctrl-C

    A spec is a YAML file that names models, vector stores and agents; `lsbuild init rag DIR` writes a first one.
    """
