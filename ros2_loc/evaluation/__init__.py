"""How good the localization is: metrics, records of an evaluation, and a report for people."""
