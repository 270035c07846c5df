"""What a kernel takes and gives, by small ones that are compiled here."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from paritree.core.errors import InvariantBroken
from paritree.core.fast.compiler import compiled, kernel
from paritree.core.fast.machinecode import Kernel


def made(signature: str, function: Any) -> Kernel:
    return Kernel(compiled(kernel(signature)(function)))


def test_arrays_of_every_shape_arrive_as_they_are() -> None:
    def places(one: Any, two: Any, three: Any, scale: int, negative: bool) -> Any:
        total = one.sum() + two[1, 2] * scale + three[1, 0, 1] * np.int64(three.shape[0])
        return -total if negative else total

    run = made("int64(int64[::1], int32[:, ::1], int16[:, :, ::1], int64, boolean)", places)
    one, two, three = np.arange(5), np.arange(12, dtype=np.int32).reshape(3, 4), np.ones((2, 1, 2), np.int16)
    assert run(one, two, three, 100, False) == 10 + 600 + 2
    assert run(one, two, three, np.int64(-1), np.True_) == -(10 - 6 + 2)
    assert run(np.empty(0, np.int64), two, three, 0, False) == 2


def test_results_of_every_kind_come_back() -> None:
    assert made("UniTuple(int64, 3)(int64)", lambda x: (x, -x, x * x))(-7) == (-7, 7, 49)
    assert made("boolean(int64)", lambda x: x > 3)(4) is True
    filled = np.zeros(3, np.uint64)

    def fill(out: Any) -> None:
        out[:] = np.uint64(1) << np.uint64(63)

    assert made("void(uint64[::1])", fill)(filled) is None
    assert filled.tolist() == [1 << 63] * 3


def test_memory_of_a_kernels_own_is_aligned_and_given_back() -> None:
    def own(n: int) -> Any:
        return np.zeros(n, np.int64).sum() + np.empty(n, np.uint8).ctypes.data % 16

    run = made("int64(int64)", own)
    assert {run(n) for n in range(2_000)} == {0}
    assert run(1 << 20) == 0
    with pytest.raises(MemoryError, match="status"):
        run(1 << 59)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros(3, np.int32), "int32, 1"),
        (np.zeros((3, 1), np.int64), "int64, 2"),
        (np.zeros(6, np.int64)[::2], "not contiguous"),
        (np.frombuffer(bytes(24), np.int64), "cannot be written"),
        (np.frombuffer(bytearray(25), np.uint8)[1:].view(np.int64), "not aligned"),
        ([1, 2, 3], "list"),
        (None, "NoneType"),
        (7, "int"),
    ],
)
def test_what_is_not_of_the_signature_is_refused(value: Any, error: str) -> None:
    run = made("int64(int64[::1])", lambda numbers: numbers[0])
    with pytest.raises(TypeError, match=error):
        run(value)
    with pytest.raises(TypeError, match="2 arguments"):
        run(np.zeros(1, np.int64), 1)


def test_numbers_that_do_not_fit_are_refused() -> None:
    run = made("int64(int64, boolean)", lambda x, _: x)
    assert run((1 << 63) - 1, True) == (1 << 63) - 1
    for wrong, kind in ((1 << 63, OverflowError), (-(1 << 63) - 1, OverflowError), (1.0, TypeError), ("1", TypeError)):
        with pytest.raises(kind):
            run(wrong, True)
    with pytest.raises(TypeError, match="no boolean"):
        run(1, 1)


def test_a_page_may_be_what_cannot_be_written() -> None:
    run = made("int64(Array(uint8, 1, 'C', readonly=True))", lambda page: np.int64(page[1]))
    assert run(np.frombuffer(b"ab", np.uint8)) == ord("b")
    assert run(np.array([1, 2], np.uint8)) == 2


def test_code_that_needs_the_compilers_library_is_not_taken() -> None:
    def raises(x: int) -> int:
        if x > 3:
            raise ValueError(x)
        return x

    with pytest.raises(InvariantBroken, match="kernel raises needs"):
        compiled(kernel("int64(int64)")(raises))


def test_other_threads_go_on_while_a_kernel_runs() -> None:
    def scrambled(times: int) -> int:
        word = np.uint64(88172645463325252)
        for _ in range(times):
            word ^= word << np.uint64(13)
            word ^= word >> np.uint64(7)
            word ^= word << np.uint64(17)
        return np.int64(word >> np.uint64(1))

    run, passes = made("int64(int64)", scrambled), 0
    thread = threading.Thread(target=run, args=(200_000_000,), daemon=True)
    thread.start()
    while thread.is_alive():
        passes += 1
    assert passes > 1_000  # had the kernel kept Python's lock, one or two
