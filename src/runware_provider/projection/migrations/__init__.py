"""Alembic's directory for the read model: `env.py` and, in `versions`, one module a revision."""
