"""Fixtures for all tests: one PostgreSQL server a run, a database a test module that asks for one."""
