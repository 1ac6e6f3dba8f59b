"""Everyone's PostgreSQL is measured with the same settings, those of one file."""

import re

import asyncpg
from references.postgresql import SETTINGS, cluster, programs

from support.postgresql import program


async def test_a_measured_postgresql_has_the_settings_of_the_file() -> None:
    program("initdb")
    folder = programs()
    assert folder is not None
    wanted = dict(re.findall(r"(?m)^(\w+) = '?(.*?)'?$", SETTINGS.read_text("utf-8")))
    assert wanted["synchronous_commit"] == "on"
    async with cluster(folder) as database:
        connection = await asyncpg.connect(database.url)
        found = {name: await connection.fetchval(f"SHOW {name}") for name in wanted}
        await connection.close()
    assert found == wanted
