"""Whether search and agents find what they should: question sets, the measures, and the gates that a build must pass.

Nothing here knows how a question is asked: a compile step asks the services that will ship, the CLI asks a server.
"""
