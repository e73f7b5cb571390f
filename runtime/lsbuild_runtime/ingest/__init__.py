"""Document -> passages: readers and the chunker, used at build and by stores that take uploads; it embeds and stores nothing.

Its libraries (semantic-text-splitter, markdown-it-py, selectolax ...) travel only with artifacts whose stores are mutable.
"""
