"""The counters behind the meter: wraps, resets, dead and jumping counters, refused files, process trees."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost import procfs
from arriero.cost.counters import Counters
from arriero.cost.counters_energy import CounterUnavailable, Register, Registers
from arriero.cost.counters_nvml import NvmlCounter, Polled
from arriero.cost.counters_rapl import find_rapl
from arriero.cost.counters_tree import ProcessTree, cpu_of, descendants, mapped_bytes


class Hardware:
    """A counter that a test moves."""

    def __init__(self, wraps_at: float | None = None) -> None:
        self.true = self.shown = 0.0
        self.wraps_at = wraps_at
        self.broken = False
        self.register = Register("toy", self.read, wraps_at, most_watts=500.0)
        self.now = 1000.0
        self.register.observe(self.now)

    def read(self, now: float) -> float:
        if self.broken:
            raise OSError("refused")
        return self.shown

    def go(self, seconds: float, watts: float, *, observe: bool = True) -> None:
        self.now += seconds
        self.true += seconds * watts
        self.shown += seconds * watts
        if self.wraps_at is not None:
            self.shown %= self.wraps_at
        if observe:
            self.register.observe(self.now)


@given(st.lists(st.tuples(st.floats(0.2, 5.0), st.floats(0.5, 400.0)), max_size=40))
def test_every_joule_is_counted_once_however_often_it_wraps(steps: list[tuple[float, float]]) -> None:
    hardware = Hardware(wraps_at=2600.0)
    for seconds, watts in steps:
        hardware.go(seconds, watts)
    energy = hardware.register.energy()
    assert energy is not None
    assert energy.counted == pytest.approx(hardware.true, rel=1e-6, abs=1e-6)
    assert energy.filled == 0 and hardware.register.faults() == []


def test_a_counter_that_begins_again_is_told_and_its_gap_filled() -> None:
    hardware = Hardware()
    for _ in range(10):
        hardware.go(1, 100)
    hardware.go(1, 100, observe=False)
    hardware.shown = 0.0  # the driver was reloaded
    hardware.go(1, 100)
    for _ in range(8):
        hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None
    assert energy.counted == pytest.approx(1800) and energy.filled == pytest.approx(200)
    assert hardware.register.faults() == ["toy began again (2 s without a figure)"]


def test_a_reset_is_not_taken_for_a_wrap() -> None:
    """262 kJ in a second would be a quarter of a megawatt."""
    hardware = Hardware(wraps_at=262_144.0)
    for _ in range(30):
        hardware.go(1, 100)
    hardware.shown = 0.0
    hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(3000)
    assert "began again" in hardware.register.faults()[0]


@pytest.mark.parametrize("live", [0, 3])
def test_a_counter_that_stands_still_is_unknown(live: int) -> None:
    hardware = Hardware()
    for _ in range(live):
        hardware.go(1, 50)
    for _ in range(20):
        hardware.go(1, 0)
    assert hardware.register.energy() is None
    assert "stood still" in hardware.register.faults()[0]


def test_a_counter_that_never_moved_in_a_short_stage_is_unknown_too() -> None:
    hardware = Hardware()
    hardware.go(2, 0)
    assert hardware.register.energy() is None


def test_a_counter_that_moves_seldom_is_believed() -> None:
    hardware = Hardware()
    for _ in range(10):
        hardware.go(1, 100, observe=False)
        shown, hardware.shown = hardware.shown, hardware.shown - 100
        hardware.register.observe(hardware.now - 0.5)  # it has not moved yet
        hardware.shown = shown
        hardware.register.observe(hardware.now)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(1000) and energy.filled == 0


def test_a_counter_that_jumps_is_not_believed() -> None:
    hardware = Hardware()
    for _ in range(9):
        hardware.go(1, 100)
    hardware.shown += 1e9
    hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(900) and energy.filled == pytest.approx(100)
    assert "jumped" in hardware.register.faults()[0]


def test_a_gap_in_which_it_may_have_wrapped_unseen_is_filled_not_guessed() -> None:
    hardware = Hardware(wraps_at=65_536.0)
    for _ in range(100):
        hardware.go(1, 100)
    hardware.go(3600, 100)  # suspended, or stopped: it has wrapped five times
    for _ in range(100):
        hardware.go(1, 100)
    assert hardware.register.energy() is None, "most of the time is not covered"
    for _ in range(4000):
        hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(420_000, rel=0.01)
    assert energy.filled == pytest.approx(360_000, rel=0.01)
    assert "may have wrapped" in hardware.register.faults()[0]


def test_a_read_that_fails_now_and_then_loses_nothing() -> None:
    hardware = Hardware()
    for second in range(20):
        hardware.broken = second in (4, 5, 11)
        hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(2000) and energy.filled == 0
    assert hardware.register.faults() == ["toy could not be read"]


def test_a_clock_that_goes_back_does_not_make_energy() -> None:
    hardware = Hardware()
    hardware.go(1, 100)
    hardware.now -= 500
    hardware.go(0, 0)
    for _ in range(5):
        hardware.go(1, 100)
    energy = hardware.register.energy()
    assert energy is not None and energy.counted == pytest.approx(600)


def test_one_unknown_register_makes_the_sum_unknown() -> None:
    alive, dead = Hardware(), Hardware()
    both = Registers("both", [alive.register, dead.register])
    for _ in range(10):
        alive.go(1, 100, observe=False)
        dead.go(1, 0, observe=False)
        found = both.observe(alive.now)
    assert found is None
    assert both.faults() == ["toy stood still (10 s without a figure)"]


# ------------------------------------------------------------ RAPL


def rapl(root: Path, name: str, zone: str, micro: int, limit: int = 70_000_000_000) -> Path:
    folder = root / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{micro}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder / "energy_uj"


def test_rapl_adds_packages_and_memory_once_and_survives_the_wrap(tmp_path: Path) -> None:
    limit = 70_000_000_000
    first = rapl(tmp_path, "package-0", "intel-rapl:0", limit - 50_000_000)
    second = rapl(tmp_path, "package-1", "intel-rapl:1", 0)
    rapl(tmp_path, "core", "intel-rapl:0:0", 5)  # inside the package: would count twice
    rapl(tmp_path, "psys", "intel-rapl:2", 5)  # holds the packages: likewise
    rapl(tmp_path, "package-0", "intel-rapl-mmio:0", 5)  # the same package by another road
    memory = rapl(tmp_path, "dram", "intel-rapl:0:1", 10)
    counter = find_rapl(tmp_path)
    begun = counter.observe(0.0)
    assert begun is not None and begun.counted == 0
    first.write_text(f"{limit - 10_000_000}")
    second.write_text("30000000")
    memory.write_text("20000010")
    for zone in ("intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"):
        (tmp_path / zone / "energy_uj").write_text("999999")
    found = counter.observe(1.0)
    assert found is not None and found.counted == pytest.approx(40 + 30 + 20)
    first.write_text("25000000")  # wrapped: 10 up to the limit and 25 after it
    second.write_text("60000000")
    memory.write_text("30000010")
    found = counter.observe(2.0)
    assert found is not None and found.counted == pytest.approx(90 + 35 + 30 + 10)
    assert counter.faults() == []


def test_rapl_says_why_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(CounterUnavailable, match="no energy counter"):
        find_rapl(tmp_path / "nothing")
    rapl(tmp_path, "psys", "intel-rapl:1", 5)
    with pytest.raises(CounterUnavailable, match="no energy counter"):
        find_rapl(tmp_path)
    file = rapl(tmp_path, "package-0", "intel-rapl:0", 5)
    file.unlink()
    with pytest.raises(CounterUnavailable, match="could not be read: No such file"):
        find_rapl(tmp_path)
    file.write_text("much")
    with pytest.raises(CounterUnavailable, match="holds no number"):
        find_rapl(tmp_path)


def test_rapl_that_only_root_may_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = rapl(tmp_path, "package-0", "intel-rapl:0", 5)
    read = Path.read_text

    def refused(path: Path, *args: object, **named: object) -> str:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refused)  # the tests may run as root, whom nothing is refused
    with pytest.raises(CounterUnavailable, match="may only be read by root"):
        find_rapl(tmp_path)


def test_the_system_names_what_it_lacks() -> None:
    found = Counters.system()
    assert (found.package is None) == ("package" in found.missing)
    assert (found.accelerator is None) == ("accelerator" in found.missing)
    assert all(found.missing.values())


# ------------------------------------------------------------ NVML


class FakeNvml:
    def __init__(self, *, counts: bool = True) -> None:
        self.millijoules = [1000.0, 5000.0]
        self.milliwatts = [100_000.0, 200_000.0]
        self.counts = counts

    def nvmlDeviceGetCount(self) -> int:
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}abc"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> float:
        if not self.counts:
            raise RuntimeError("Not Supported")
        return self.millijoules[handle]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> float:
        return self.milliwatts[handle]


def counted(counter: NvmlCounter, now: float) -> float | None:
    found = counter.observe(now)
    return None if found is None else found.counted


def test_nvml_counts_only_the_devices_in_use_from_the_meters_beginning() -> None:
    nvml, in_use = FakeNvml(), []
    counter = NvmlCounter(nvml, lambda: in_use)
    assert counted(counter, 0.0) is None
    nvml.millijoules = [90_000.0, 6000.0]
    in_use.append("GPU-1abc")  # opened only now
    assert counted(counter, 1.0) == pytest.approx(1.0)
    in_use.append("0")  # by its number, where torch tells no UUID
    nvml.millijoules[1] += 500
    assert counted(counter, 2.0) is not None and counted(counter, 2.5) == pytest.approx(89.0 + 1.5)
    assert counter.basis == "measured"
    in_use.append("GPU-of-another-machine")
    assert counted(counter, 3.0) is None, "a device that cannot be asked makes the sum unknown"


def test_nvml_after_a_driver_reload_fills_the_gap() -> None:
    nvml = FakeNvml()
    counter = NvmlCounter(nvml, lambda: ["0"])
    for second in range(20):
        nvml.millijoules[0] = 300_000.0 * (second if second < 10 else second - 10)
        found = counter.observe(float(second))
    assert found is not None
    assert found.counted == pytest.approx(18 * 300) and found.filled == pytest.approx(300)
    assert counter.faults() == ["device 0 began again (1 s without a figure)"]


def test_nvml_without_a_counter_polls_the_power_and_says_so() -> None:
    nvml = FakeNvml(counts=False)
    counter = NvmlCounter(nvml, lambda: ["0", "1"])
    for second in range(11):
        nvml.milliwatts[0] = 100_000.0 + 10_000.0 * second  # a ramp: its mean is 150 W
        found = counter.observe(float(second))
    assert found is not None and found.counted == pytest.approx(150 * 10 + 200 * 10)
    assert counter.basis == "modelled"


def test_polled_power_says_nothing_of_a_gap() -> None:
    watts = Polled(lambda: 100.0)
    assert watts.joules(0.0) == 0
    assert watts.joules(2.0) == 200
    assert math.isnan(watts.joules(500.0))
    assert watts.joules(501.0) == 300
    register = Register("polled", Polled(lambda: 100.0).joules)
    for now in [*range(300), *range(400, 600)]:
        register.observe(float(now))
    energy = register.energy()
    assert energy is not None and energy.counted + energy.filled == pytest.approx(599 * 100)
    assert energy.filled == pytest.approx(102 * 100), "the gap, and the step after it"


# ------------------------------------------------------------ processes


def test_a_tree_is_found_through_its_tasks(tmp_path: Path) -> None:
    def process(pid: int, children: dict[int, str], times: str = "1 2 3 4") -> None:
        for task, text in children.items():
            (tmp_path / str(pid) / "task" / str(task)).mkdir(parents=True)
            (tmp_path / str(pid) / "task" / str(task) / "children").write_text(text)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a b) c) S 1 1 1 0 -1 0 0 0 0 0 {times} 20 0 1\n")
        (tmp_path / str(pid) / "smaps_rollup").write_text(
            "00-ff ---p 00000000 00:00 0 [rollup]\nRss: 100 kB\nPss: 70 kB\nPrivate_Clean: 10 kB\nPrivate_Dirty: 30 kB\n"
        )

    process(10, {10: "11 12 ", 99: "13"})
    process(11, {11: ""})
    process(12, {12: "14"})
    process(13, {13: ""})
    process(14, {14: "77"})  # 77 has just ended
    assert sorted(descendants(10, tmp_path)) == [11, 12, 13, 14, 77]
    assert cpu_of(10, tmp_path) == pytest.approx(10 / os.sysconf("SC_CLK_TCK"))
    assert cpu_of(77, tmp_path) == 0 and mapped_bytes(77, tmp_path) == (0, 0)
    assert mapped_bytes(10, tmp_path) == (40 * 1024, 70 * 1024)
    tree = ProcessTree(10, tmp_path, siblings=False)
    assert tree.children_bytes() == 4 * 40 * 1024
    assert tree.proportional_bytes() == 5 * 70 * 1024
    before = tree.cpu()
    (tmp_path / "12" / "stat").unlink()  # ended, and nobody waited for it
    assert tree.cpu() >= before, "what was used stays used"


def test_under_torchrun_the_siblings_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: sum(range(1000))\ninput()"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    here = ProcessTree()
    assert here.siblings
    script = (
        "import os, subprocess, sys\n"
        f"other = subprocess.Popen([sys.executable, '-c', {burn!r}], stdin=subprocess.PIPE)\n"
        "asker = '''import time\nfrom arriero.cost.counters_tree import ProcessTree\nimport resource\n"
        "time.sleep(0.05)\nend = time.time() + 20\n"
        "own = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])\n"
        "tree = ProcessTree()\n"
        "while tree.cpu() - own() < 0.25 and time.time() < end: time.sleep(0.05)\n"
        "print(tree.cpu() - own())'''\n"
        "print(subprocess.run([sys.executable, '-c', asker], capture_output=True, text=True).stdout)\n"
        "other.stdin.close(); other.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) >= 0.25


def test_proc_files_are_read_in_their_units(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 250 0 0\ncpu0 1 2 3 4 5 6 7 9 0 0\n")
    assert procfs.resident_bytes(tmp_path) == 1024 * 1024
    assert procfs.peak_resident_bytes(tmp_path) == 2048 * 1024
    assert procfs.steal_seconds(tmp_path) == pytest.approx(250 / os.sysconf("SC_CLK_TCK"))
    assert procfs.reset_peak(tmp_path) is True
    assert procfs.reset_peak(tmp_path / "nothing") is False
    assert procfs.steal_seconds(tmp_path / "nothing") == 0
    assert procfs.resident_bytes(tmp_path / "nothing") > 10**6


def test_the_share_that_was_taken_is_of_the_time_with_work(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  50 5 20 900 77 3 2 20 1 1\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert procfs.steal_share(tmp_path) == 0.2, (
        "neither idle time nor waiting for discs, nor guests, who are in user time"
    )


@pytest.mark.parametrize("text", ["", "cpu  50 5 20\n", "cpu  a b c d e f g h\n"])
def test_nothing_was_taken_where_the_system_does_not_say(text: str, tmp_path: Path) -> None:
    assert procfs.steal_share(tmp_path) == 0.0, "no file"
    (tmp_path / "stat").write_text(text)
    assert (procfs.steal_share(tmp_path), procfs.steal_seconds(tmp_path)) == (0.0, 0.0)


def test_pressure_is_read_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "CGROUP", tmp_path / "cgroup")
    (tmp_path / "pressure").mkdir()
    text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n"
    (tmp_path / "pressure" / "cpu").write_text(text)
    (tmp_path / "pressure" / "memory").write_text(text)
    assert procfs.pressure_seconds("cpu", tmp_path) == 2.5
    assert procfs.pressure_seconds("memory", tmp_path) == 0.5
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "cgroup" / "cpu.pressure").write_text(text.replace("2500000", "1000000"))
    assert procfs.pressure_seconds("cpu", tmp_path) == 1.0, "of this control group, where it has one"
    (tmp_path / "cgroup" / "cpu.pressure").unlink()
    assert procfs.pressure_seconds("cpu", tmp_path / "nothing") == 0
    assert procfs.boot_seconds() > 0
