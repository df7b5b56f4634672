"""All that knows Locust, except the user classes: a process's share of a run, and the one verdict on all of them."""
