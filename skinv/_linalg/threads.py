"""Pieces of a batch on as many threads as the process gives, each with memory of its own."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

from .._arrays.conversion import loaded_torch
from .._arrays.memory import on_host
from .._arrays.warned import later, warn
from .workspace import Workspace


def in_threads(work: Callable[[slice], Any], pieces: Iterable[slice], at: Any) -> None:
    """Call a function for every piece, on several threads if there are several pieces.

    And if numbers, as `at` is some, are on the host.

    The caller's thread is one of them. Meanwhile BLAS, which would start threads of its own, gets
    along with one in each: so results are the same, to the bit, however many threads there are.
    Warnings are given, and the first error is raised, in the caller's thread.
    """
    todo = list(pieces)
    if len(todo) < 2 or not on_host(at):
        for piece in todo:
            work(piece)
        Workspace.of_thread().trim()
        return
    with _STATE.alone() as count:
        _run(work, todo, min(count, len(todo)))


def _run(work: Callable[[slice], Any], todo: list[slice], count: int) -> None:
    remaining, lock = iter(enumerate(todo)), Lock()
    errors: dict[int, BaseException] = {}
    said: list[tuple[int, str, type[Warning]]] = []

    def share() -> None:
        while not errors:
            with lock:
                number, piece = next(remaining, (-1, None))
            if piece is None:
                break
            try:
                with later(said, number):
                    work(piece)
            except BaseException as error:
                errors[number] = error
        Workspace.of_thread().trim()

    others: list[Future] = []
    if count > 1:
        with suppress(RuntimeError):  # at the end of the process there are no workers any more
            for _ in range(count - 1):
                others.append(_STATE.pool.submit(copy_context().run, share))
    share()
    for other in others:
        other.result()
    if errors:
        raise errors[min(errors)]
    for _, message, category in sorted(said, key=lambda each: each[0]):
        warn(message, category)


class _State:
    """Who has the workers, and how many calls have BLAS limited to one thread."""

    def __init__(self) -> None:
        self._free, self._lock = Lock(), Lock()
        self._calls = 0
        self._before: list[int] = []
        self._threads = 1
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(_cores() - 1, 1), thread_name_prefix="skinv")
        return self._pool

    @contextmanager
    def alone(self) -> Iterator[int]:
        """Limit BLAS to one thread, and say how many threads are to be had.

        One call at a time has the workers: others, from other threads, have their own thread.
        """
        first = self._free.acquire(blocking=False)
        with self._lock:
            if self._calls == 0:
                self._threads = _n_threads()
                self._before = [library.num_threads for library in _blas()]
                _limit_blas([1] * len(self._before))
            self._calls += 1
        try:
            yield self._threads if first else 1
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    _limit_blas(self._before)
            if first:
                self._free.release()


@cache
def _blas() -> list[Any]:
    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


def _limit_blas(counts: list[int]) -> None:
    """Let BLAS start so many threads, in each of the libraries that there are of it.

    From threadpoolctl 3.8 on OpenBLAS listens to one thread alone, the first that has set a limit,
    unless that is forgotten: before, as the caller of skinv may be another one, and once more after
    it, so that limits that were set around the call can be taken back.
    """
    for library, number in zip(_blas(), counts, strict=True):
        forget = getattr(library, "clear_controlling_thread", lambda force: None)
        forget(force=True)
        library.set_num_threads(number)
        forget(force=True)


def _n_threads() -> int:
    """Return as many threads as BLAS and torch may start."""
    counts = [library.num_threads for library in _blas()]
    torch = loaded_torch()
    if torch is not None:
        counts.append(torch.get_num_threads())
    return min([_cores(), *filter(None, counts)])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_STATE = _State()


def _forget() -> None:
    """In a forked process there are no workers, and nobody who has them."""
    global _STATE
    _STATE = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
