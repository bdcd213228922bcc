"""Shared by all tests: the command line, one finished run of the smoke recipe, and how pytest tells what happened."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from arriero.process import NO_SMALL_CACHE, TUNABLES, let_waiting_threads_sleep

let_waiting_threads_sleep()  # before any test loads torch

# every process that a test starts would compile all of Arriero again, which takes 4 s of a core
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# a slow machine is no failure, and a failure can be drawn again from what it prints;
# for a hard look: pytest --hypothesis-profile thorough
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=1000)
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure(config: pytest.Config) -> None:
    """Where tests run beside each other, each takes one core."""
    if hasattr(config, "workerinput"):
        import torch

        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
    elif config.getoption("dist", "no") != "no":
        config.pluginmanager.register(AtOnce(config), "at_once")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where files are dealt to several processes, those with slow tests come first: none is left over at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


class AtOnce:
    """Writes a failure when it happens; pytest's own report of all of them comes at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.section(f"{report.nodeid} ({report.when})", sep="-", red=True)
            terminal.line(report.longreprtext)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder with pyproject.toml, README.md and recipes/."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def arriero_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a user who has never run Arriero; no test sees or changes the real one."""
    home = tmp_path_factory.mktemp("arriero-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRIERO_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def cli_environment(arriero_home: Path) -> dict[str, str]:
    """Environment of a user who has never run Arriero: its own device profile, no colours."""
    return {
        **os.environ,
        "ARRIERO_HOME": str(arriero_home),
        "NO_COLOR": "1",
        "COLUMNS": "160",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def warm_cli() -> ModuleType:
    """The module that runs commands without loading the libraries for each."""
    spec = importlib.util.spec_from_file_location("warm_cli", Path(__file__).with_name("warm_cli.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def commands(cli_environment: dict[str, str]) -> Iterator[Path]:
    """The address of the process that forks commands; it ends with the tests."""
    with tempfile.TemporaryDirectory(prefix="arriero-") as folder:  # an address is short
        address = Path(folder) / "socket"
        program = [sys.executable, str(Path(__file__).with_name("warm_cli.py")), str(address)]
        environment = {**cli_environment, TUNABLES: NO_SMALL_CACHE}
        with subprocess.Popen(
            program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            yield address


@pytest.fixture(scope="session")
def warm_python(commands: Path, warm_cli: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program to call as ``python FILE ARGUMENTS...``, which has torch and Arriero loaded already."""
    program = tmp_path_factory.mktemp("bin") / "python"
    warm_cli.write_client(program, commands)
    return program


@pytest.fixture(scope="session")
def arriero(commands: Path, warm_cli: ModuleType, cli_environment: dict[str, str]) -> Cli:
    """Run the command line: ``arriero("plan", recipe, cwd=...)``; expects exit code 0 unless ``code`` is given.

    With variables of its own, or with ``cold``, the command starts as a user's does, with a new interpreter.
    """

    def start(arguments: list[str], cwd: Path | None, timeout: float) -> subprocess.CompletedProcess[str]:
        with (
            tempfile.TemporaryFile("w+", newline="") as out,
            tempfile.TemporaryFile("w+", newline="") as err,
            Path(os.devnull).open() as nothing,
        ):
            files = [nothing.fileno(), out.fileno(), err.fileno()]
            code = warm_cli.call(
                commands, ["arriero", *arguments], str(cwd or Path.cwd()), cli_environment, files, timeout
            )
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(["arriero", *arguments], code, *said)

    def call(
        *args: object,
        cwd: Path | None = None,
        code: int = 0,
        timeout: float = 560,
        cold: bool = False,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        arguments = [str(one) for one in args]
        if env or cold or not warm_cli.SUPPORTED:
            done = subprocess.run(
                [sys.executable, "-m", "arriero", *arguments], cwd=cwd, timeout=timeout,
                env={**cli_environment, **env}, capture_output=True, text=True, check=False,
            )  # fmt: skip
        else:
            done = start(arguments, cwd, timeout)
        assert done.returncode == code, (
            f"exit code {done.returncode}, expected {code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        assert code == 1 or "Traceback" not in done.stderr, done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def first_plan() -> Callable[[Path], dict[str, Any]]:
    """The plan that a run folder was begun with, as `arriero plan --json` gives it."""
    return lambda run: json.loads(min((run / "plans").glob("plan-*.json")).read_text())


@pytest.fixture(scope="session")
def smoke_run(arriero: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/smoke.yaml, shared by the tests that only look at it."""
    out = tmp_path_factory.mktemp("smoke") / "run"
    done = arriero("run", ROOT / "recipes" / "smoke.yaml", "--out", out, cold=True)
    (out / "stdout.txt").write_text(done.stdout)
    (out / "stderr.txt").write_text(done.stderr)
    return out


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless browser (see serving/chromium.py); a test renews it, so that nothing is left of the one before."""
    from tests.serving.chromium import Page

    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()
