"""The engine: one run, whether the bench, a drill or Locust starts it.

`DatabaseRun` connects, creates the keys, records, makes the final reads and cleans up; `result` assembles a run's JSON.
A `ProcessRun` runs the sessions as threads (the bench, drills), Locust's workers as their users.
"""
