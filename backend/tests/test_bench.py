from math import isnan

from benchmarks.load import read

SAID = """
Running 4s test @ http://127.0.0.1:8000
  1 threads and 256 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02s    53.32ms   1.21s    98.00%
    Req/Sec   240.10    100.25   490.00     60.00%
  Latency Distribution
     50%  950.10ms
     75%    1.03s 
     90%    1.05s 
     99%    1.13s 
  1000 requests in 4.05s, 300.00KB read
Requests/sec:    246.91
Transfer/sec:     74.07KB
"""  # noqa: W291 - wrk writes a space after a second's unit


def test_a_percentile_beyond_a_second_is_read() -> None:
    assert read(SAID, 0.5, 0.2).p50 == 950.1
    assert read(SAID, 0.5, 0.2).p99 == 1130


def test_the_bench_gives_the_processor_time_for_each_request() -> None:
    load = read(SAID, used=0.5, by_postgres=0.2)

    assert (load.processor, load.by_postgres) == (500, 200)


def test_a_server_that_answered_nothing_has_no_processor_time_for_each_request() -> None:
    said = SAID.replace("1000 requests", "0 requests")

    assert isnan(read(said, 0.5, 0.2).processor)
