"""One database, one file; `protocol` holds what they share, `memory` a replicated store with a known truth."""
