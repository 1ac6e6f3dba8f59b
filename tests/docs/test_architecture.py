"""The rooms of the server stand on floors, and what one imports stands below it."""

from collections import Counter
from graphlib import TopologicalSorter

from support.imports import FLOORS, PICTURE, arrows, draw, floor_of, modules, rooms


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(modules()).prepare()


def test_every_room_stands_on_one_floor() -> None:
    assert Counter(room for floor in FLOORS for room in floor) == Counter([*rooms(modules())])


def test_no_room_imports_one_of_its_own_floor_or_above() -> None:
    upwards = [
        f"{one} imports {other}"
        for one, other in arrows(rooms(modules()))
        if floor_of(other) <= floor_of(one)
    ]
    assert upwards == []


def test_the_picture_of_imports_is_drawn_from_the_code_as_it_is() -> None:
    assert PICTURE.read_text("utf-8") == draw(rooms(modules())), "run `make docs`"
