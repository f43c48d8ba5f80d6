"""Any text is kept as it was sent, or refused."""

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tasks import assert_problem, create, listed, task_path, tasks_path

thorough = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

whitespace = st.text(st.sampled_from(" \t\n\r\u00a0\u2003\u3000"), max_size=5)
storable = st.characters(exclude_characters="\0", codec="utf-8")
titles = st.builds(
    "{}{}{}".format, whitespace, st.text(storable, min_size=1, max_size=480), whitespace
).filter(str.strip)
descriptions = st.none() | st.text(storable, max_size=5000)
user_ids = st.text(storable, min_size=1, max_size=255).filter(lambda text: text not in {".", ".."})


@thorough
@given(title=titles, description=descriptions)
def test_text_is_kept(api: httpx.Client, user: str, title: str, description: str | None) -> None:
    task = create(api, user, title=title, description=description)

    assert task["title"] == title.strip()
    assert task["description"] == description
    assert api.get(task_path(task)).json() == task


@thorough
@given(title=titles, description=descriptions)
def test_an_update_keeps_text(
    api: httpx.Client, user: str, title: str, description: str | None
) -> None:
    task = create(api, user)

    updated = api.put(task_path(task), json={"title": title, "description": description}).json()

    assert updated["title"] == title.strip()
    assert updated["description"] == description
    assert api.get(task_path(task)).json() == updated


@thorough
@given(user_id=user_ids)
def test_tasks_are_found_by_their_owner(api: httpx.Client, user_id: str) -> None:
    task = create(api, user_id)

    assert task["user_id"] == user_id
    assert task in listed(api, user_id)
    assert api.delete(task_path(task)).status_code == 200


@thorough
@given(mine=user_ids, theirs=user_ids)
def test_tasks_are_not_found_by_other_users(
    api: httpx.Client, user: str, mine: str, theirs: str
) -> None:
    task = create(api, (user + mine)[:255])
    other = (f"other-{user}" + theirs)[:255]

    assert task not in listed(api, other)
    assert api.get(task_path(task | {"user_id": other})).status_code == 404


@thorough
@given(
    title=st.text()
    .filter(lambda text: not 1 <= len(text.strip()) <= 500 or "\0" in text)
    .filter(lambda text: not any(0xD800 <= ord(character) <= 0xDFFF for character in text))
)
def test_any_other_title_is_refused(api: httpx.Client, user: str, title: str) -> None:
    assert_problem(api.post(tasks_path(user), json={"title": title}), 422)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@thorough
@given(title=values, completed=values.filter(lambda value: not isinstance(value, bool)))
def test_any_other_type_is_refused(
    api: httpx.Client, user: str, title: object, completed: object
) -> None:
    task = create(api, user)

    assert_problem(api.post(tasks_path(user), json={"title": title}), 422)
    assert_problem(api.put(task_path(task), json={"title": title}), 422)
    assert_problem(api.put(task_path(task), json={"completed": completed}), 422)
