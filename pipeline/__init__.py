"""What a person runs: the commands, configurations, run ledger, sweep, table and report.

Not a library for other packages: ``stores``, ``extract`` and ``temporal`` know nothing of it.
"""
