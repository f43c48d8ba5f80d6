"""A small framework beneath FastAPI's decorators.

To see the application's layers, you need not open the framework. The framework knows users' rows,
with `user_id` and `id`, but no table. Its fast path takes an eighth to a sixth of the processor
time that FastAPI takes for a request (`python -m benchmarks.fast_path`); one line of `main.py`
switches the fast path off. The packages are:

- `web`: requests and answers, as HTTP's RFCs have them;
- `server`: the process, its sockets, signals and logs;
- `sql`: statements for PostgreSQL, and their rows;
- `auth`: who is calling.
"""
