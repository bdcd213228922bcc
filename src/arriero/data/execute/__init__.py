"""Executors: one function over many tasks, in this process, in a pool of processes, or on Ray; the same bytes out."""

from __future__ import annotations

from arriero.data.execute.progress import Progress
from arriero.data.execute.settings import ExecutorSettings, make_executor
from arriero.data.execute.tasks import Counts, Executor, Task, require_all

__all__ = ["Counts", "Executor", "ExecutorSettings", "Progress", "Task", "make_executor", "require_all"]
