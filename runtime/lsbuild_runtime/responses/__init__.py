"""The Responses API behind its routes: items, runs and what is kept of them; the loop itself is ``lsbuild_runtime.agent``.

    request --preparing--> Work --task--> Task --run--> events --writer--> items and stream events
                             |                                  |
                             +------------ records -------------+   begun, after each step, ended

Nothing of this package is imported before the first request that needs it.
"""

FOLDER = "responses"
FILE_NAME = "responses.sqlite"
"""Where SQLite keeps them below the state folder; named here since looking for it must load nothing."""
