"""Your own operations: blocks around the calls of any application, and the verdict of every other run.

`stalewatch.Watch` is for one process: a script, or pytest. Its sessions and blocks are shared with Locust's users.
docs/watch-your-own.md describes them.
"""
