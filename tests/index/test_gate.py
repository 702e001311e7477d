import threading
from concurrent.futures import ThreadPoolExecutor

from index.gate import Gate


def test_shutting_waits_for_those_inside_and_lets_nobody_else_in() -> None:
    gate, inside, leave = Gate(), threading.Event(), threading.Event()
    left = []

    def visit() -> None:
        with gate.entered() as is_open:
            assert is_open
            inside.set()
            assert leave.wait(10)
            left.append(True)

    def shut() -> list[bool]:
        gate.shut()
        return list(left)

    with ThreadPoolExecutor(2) as pool:
        visiting = pool.submit(visit)
        assert inside.wait(10)
        shutting = pool.submit(shut)
        while True:
            with gate.entered() as is_open:
                if not is_open:
                    break
        assert not shutting.done()
        leave.set()
        visiting.result()
        assert shutting.result() == [True]


def test_an_error_inside_still_counts_as_leaving() -> None:
    gate = Gate()
    try:
        with gate.entered():
            raise KeyError
    except KeyError:
        gate.shut()
