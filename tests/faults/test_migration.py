"""Migrations that are killed, a few."""

from faults.migration import check


def test_a_killed_migration_leaves_one_version_whole() -> None:
    assert not check(6).problems


def test_a_migration_in_pieces_is_found() -> None:
    assert check(40, breaking="migration-in-pieces").problems
