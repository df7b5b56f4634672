"""Histories: the vocabulary of the project, and the files that hold what happened during a run.

`operation` defines the records and their outcomes, `clock` their times. `writer` writes one history file, `reader`
merges the files of a run into one stream of operations; both use `codec` (one record, one line of JSON) and
`compression` (plain, ``.gz`` and ``.zst`` files). `rules` rejects histories that contradict themselves.

The file format is described in docs/consistency.md. This package imports no other part of stalewatch.
"""
