"""Checkers: the guarantees, and the judge that passes operations to them.

`guarantee` defines the interface and the shared state, `judge` has the table of guarantees, `verdict` what they find.
Except for `files`, which reads histories, everything here is pure: no input, no output, no clock.
"""
