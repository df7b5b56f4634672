"""Histories to and from the formats of other tools; docs/histories.md says what maps to what, and why it is exact.

`edn` reads and writes Clojure's data notation. `events` reads Jepsen's and porcupine's logs as calls, which `staging`
keeps on disk; `models` decides, one class a workload, what our judge may say about them. `formats` has the files that
keep everything a history holds: EDN, JSON lines, CSV, Parquet. `selection` takes a history's operations apart.
"""
