"""Generated members go through every way to send and read them, and are compared with a model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving import serving
from tests.tasks import Task, create, listed, task_path, tasks_path
from tests.test_further_members import batch, changed, further, since_now, task_in
from tests.test_properties import storable, thorough

long_numbers = st.builds(
    lambda digits, last, sign: sign * (10**digits + last),
    st.sampled_from([17, 18, 19, 127, 128, 143, 144]),
    st.integers(0, 10**9),
    st.sampled_from([-1, 1]),
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | long_numbers
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(storable, max_size=20)
)
keys = st.sampled_from(["a", "b", "é"]) | st.text(storable, max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["recurrence", "category"]) | st.text(storable, max_size=60).map(
    "x {}".format
)
longest = st.integers(4200, 6000).map(lambda digits: 10**digits + 7)
members = st.builds(
    dict.__or__,
    st.dictionaries(names, values, max_size=3),
    st.just({}) | st.fixed_dictionaries({"longest": longest | longest.map(lambda it: {"a": [it]})}),
)
ways = st.sampled_from(["PUT", "PATCH", "batch"])


def merged(target: object, patch: object) -> object:
    """RFC 7396 §2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def after(model: dict[str, Any], change: dict[str, Any], way: str) -> Any:  # noqa: ANN401 - JSON
    if way != "PUT":
        return merged(model, change)
    return {name: value for name, value in (model | change).items() if value is not None}


def is_same(got: object, sent: object) -> bool:
    """Compare JSON. A double may come back in other digits, and without its point."""
    if isinstance(sent, dict):
        return (
            isinstance(got, dict)
            and got.keys() == sent.keys()
            and all(is_same(got[name], value) for name, value in sent.items())
        )
    if isinstance(sent, list):
        return isinstance(got, list) and len(got) == len(sent) and all(map(is_same, got, sent))
    if isinstance(sent, float):
        return isinstance(got, float | int) and not isinstance(got, bool) and float(got) == sent
    return type(got) is type(sent) and got == sent


class Known(NamedTuple):
    """A user's only task, its expected members, and the token from before its creation."""

    task: Task
    since: str
    members: dict[str, Any]


def assert_known(api: httpx.Client, known: Known) -> None:
    user = known.task["user_id"]
    got = api.get(task_path(known.task)).json()
    changes = api.get(f"{tasks_path(user)}/changes", params={"since": known.since}).json()

    assert is_same(further(got), known.members)
    assert listed(api, user) == changes["changes"] == [got]


@pytest.fixture
def _python_reads_any_length() -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("_python_reads_any_length")
def test_generated_members_match_a_model_and_outlive_a_restart(
    own_database: str, tmp_path: Path
) -> None:
    all_known: list[Known] = []
    with serving(tmp_path / "before", DATABASE_URL=own_database) as server, server.client() as api:

        @settings(thorough, max_examples=100)
        @given(st.booleans(), members, st.lists(st.tuples(ways, members), max_size=4))
        def send(
            in_batch: bool, first: dict[str, Any], changes: list[tuple[str, dict[str, Any]]]
        ) -> None:
            user = f"user-{uuid4().hex}"
            since = since_now(api, user)
            if in_batch:
                operation = {"op": "create", "task": {"title": "Buy milk"} | first}
                task = task_in(batch(api, user, operation))
            else:
                task = create(api, user, **first)
            model = {name: value for name, value in first.items() if value is not None}
            assert is_same(further(task), model)
            for way, change in changes:
                task = task_in(changed(api, task, change, way))
                model = after(model, change, way)
                assert is_same(further(task), model)
            all_known.append(Known(task, since, model))
            assert_known(api, all_known[-1])

        send()
    assert len(all_known) >= 100
    with serving(tmp_path / "after", DATABASE_URL=own_database) as server, server.client() as api:
        for known in all_known:
            assert_known(api, known)
