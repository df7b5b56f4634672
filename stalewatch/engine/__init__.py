"""The engine: one run, whoever starts it.

`DatabaseRun` connects, creates the keys, records, makes the final reads and cleans up; `result` puts a run's JSON together.
A `ProcessRun` drives it by threads (the bench, drills), Locust's workers by their users.
"""
