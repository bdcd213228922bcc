"""Every meter against a synthetic clock and a synthetic counter; kills and resumes; what it costs itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from arriero.cost import procfs
from arriero.cost.counters import Counters, NvmlCounter, RaplCounter
from arriero.cost.meter import Measurement, Meter
from arriero.cost.tariffs import Machine, Tariffs

MACHINE = Machine("Test CPU", cores=4, threads=4)


class Synthetic:
    """Counters that stand still until they are told to move."""

    def __init__(self, *, exact_peak: bool = True) -> None:
        self.wall = self.cpu = self.steal = 0.0
        self.resident = self.peak = 100
        self.exact_peak = exact_peak
        self.package: FakeEnergy | None = None
        self.accelerator: FakeEnergy | None = None

    def counters(self) -> Counters:
        return Counters(
            wall=lambda: self.wall, cpu=lambda: self.cpu, steal=lambda: self.steal,
            resident=lambda: self.resident, peak=lambda: self.peak, reset_peak=lambda: self.exact_peak,
            package=self.package, accelerator=self.accelerator,
        )  # fmt: skip

    def use(self, wall: float = 0.0, cpu: float = 0.0, steal: float = 0.0) -> None:
        self.wall += wall
        self.cpu += cpu
        self.steal += steal


class FakeEnergy:
    name = "fake"

    def __init__(self, joules: float | None = 0.0) -> None:
        self.value = joules

    def joules(self) -> float | None:
        return self.value


def meter(world: Synthetic, file: Path | None = None, tariffs: Tariffs | None = None) -> Meter:
    return Meter(file, tariffs, counters=world.counters(), machine=MACHINE, background=False)


def test_every_counter_is_read_at_both_ends() -> None:
    world = Synthetic()
    world.use(wall=1000, cpu=500, steal=50)
    world.package = FakeEnergy(70.0)
    with meter(world) as running:
        world.use(wall=10, cpu=25, steal=2)
        world.package.value = 190.0
        world.peak = 900
        running.count_flops(3e9)
        running.count_flops(1e9)
    world.use(wall=99, cpu=99)
    found = running.result()
    sheet = found.estimate
    assert (sheet.seconds.value, sheet.peak_memory.value, sheet.flops.value) == (10, 900, 4e9)
    assert (found.cpu_seconds, found.steal_seconds, found.segments) == (25, 2, 1)
    assert sheet.energy.value == 120
    assert {q.basis for q in (sheet.seconds, sheet.peak_memory, sheet.flops, sheet.energy)} == {"measured"}
    assert "hypervisor took 2.0" in " ".join(found.notes)
    assert Measurement.model_validate_json(found.model_dump_json()) == found


def test_the_reader_sees_the_figures_while_the_stage_runs() -> None:
    world = Synthetic()
    with meter(world) as running:
        world.use(wall=4)
        assert running.result().estimate.seconds.value == 4
        world.use(wall=4)
    assert running.result().estimate.seconds.value == 8


def test_without_a_counter_energy_is_modelled_from_cpu_seconds() -> None:
    world = Synthetic()
    tariffs = Tariffs.load({"grid_g_per_kwh": 100, "pue": 1.0, "price_per_hour": 3.6})
    with meter(world, tariffs=tariffs) as running:
        world.use(wall=10, cpu=20)
        world.peak = 10**9
    sheet = running.result().estimate
    cores = 4.0 * (20 + 0.26 * (4 * 10 - 20))
    assert sheet.energy.value == pytest.approx(cores + 0.3725 * 1.0 * 10)
    assert sheet.energy.basis == "modelled"
    assert sheet.energy.low < sheet.energy.value < sheet.energy.high
    assert sheet.co2.value == pytest.approx(sheet.energy.value / 3.6e6 * 100)
    assert sheet.money.value == pytest.approx(0.01)


def test_own_watts_are_taken_for_the_whole_machine() -> None:
    world = Synthetic()
    with meter(world, tariffs=Tariffs.load({"watts": 30})) as running:
        world.use(wall=10, cpu=1)
    assert running.result().estimate.energy.value == pytest.approx(300)


def test_nothing_to_read_and_nothing_to_model_with_is_unknown() -> None:
    world = Synthetic()
    with meter(world) as running:
        world.use(wall=10, cpu=1)
    sheet = running.result().estimate
    assert not sheet.energy.known
    assert not sheet.co2.known
    assert not sheet.money.known
    assert not sheet.flops.known


def test_an_accelerator_that_was_used_is_counted_and_one_that_cannot_be_read_makes_energy_unknown() -> None:
    world = Synthetic()
    world.package, world.accelerator = FakeEnergy(0.0), FakeEnergy(None)
    with meter(world) as running:
        world.accelerator.value = 500.0  # opened only now: its counter starts with the meter
        world.package.value = 50.0
    assert running.result().estimate.energy.value == 550
    cuda = Machine("Test CPU", 4, 4, "cuda", "Acme")
    blind = Meter(None, Tariffs.load(), counters=Synthetic().counters(), machine=cuda, background=False)
    with blind:
        pass
    sheet = blind.result().estimate
    assert not sheet.energy.known
    assert not sheet.money.known


def test_segments_of_earlier_runs_are_added_and_no_second_is_counted_twice(tmp_path: Path) -> None:
    file = tmp_path / "meter.json"
    world = Synthetic()
    first = meter(world, file)
    first.__enter__()  # killed: never left
    world.use(wall=5, cpu=6)
    first.count_flops(100)
    first.beat()
    first.beat()  # a beat writes the total, it does not add
    world.use(wall=0.7, cpu=0.7)  # after the last beat: lost with the kill
    world.use(wall=1000)  # nobody is running
    world.peak = 300
    with meter(world, file) as second:
        world.use(wall=7, cpu=8)
        second.count_flops(10)
    world.peak = 200
    with meter(world, file) as third:
        world.use(wall=1, cpu=1)
    found = third.result()
    assert found.segments == 3
    assert found.estimate.seconds.value == pytest.approx(13)
    assert found.cpu_seconds == pytest.approx(15)
    assert found.estimate.flops.value == 110
    assert found.estimate.peak_memory.value == 300
    assert sum("killed" in note and note.startswith("1 ") for note in found.notes) == 1
    assert [s["ended"] for s in json.loads(file.read_bytes())["segments"]] == [False, True, True]


def test_an_interrupted_stage_keeps_its_seconds(tmp_path: Path) -> None:
    world, file = Synthetic(), tmp_path / "meter.json"
    with pytest.raises(KeyboardInterrupt), meter(world, file):
        world.use(wall=3)
        raise KeyboardInterrupt
    with meter(world, file) as again:
        world.use(wall=4)
    assert again.result().estimate.seconds.value == 7


@pytest.mark.parametrize("content", ["", "{", '{"segments": [{"wall_seconds": 1}]}', "[]"])
def test_a_spoilt_file_is_told_and_does_not_stop_the_stage(tmp_path: Path, content: str) -> None:
    file = tmp_path / "meter.json"
    file.write_text(content)
    world = Synthetic()
    with meter(world, file) as running:
        world.use(wall=2)
    found = running.result()
    assert found.estimate.seconds.value == 2
    assert any("could not be read" in note for note in found.notes)


def test_a_disk_that_takes_nothing_is_told_and_does_not_stop_the_stage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    world = Synthetic()
    with meter(world, tmp_path / "file" / "meter.json") as running:
        world.use(wall=2)
        running.beat()
    found = running.result()
    assert found.estimate.seconds.value == 2
    assert sum("could not be written" in note for note in found.notes) == 1


def test_memory_is_sampled_where_the_system_keeps_no_peak() -> None:
    world = Synthetic(exact_peak=False)
    world.peak = 10**6  # of the process's whole life: not ours
    counters = world.counters()
    with Meter(None, counters=counters, machine=MACHINE) as running:
        world.resident = 5000
        deadline = time.monotonic() + 5
        while running.result().estimate.peak_memory.value < 5000 and time.monotonic() < deadline:
            time.sleep(0.02)
        world.resident = 400
    found = running.result()
    assert found.estimate.peak_memory.value == 5000
    assert any("sampled" in note for note in found.notes)


def test_flops_may_be_counted_from_several_threads() -> None:
    with meter(Synthetic()) as running:
        threads = [
            threading.Thread(target=lambda: [running.count_flops(1) for _ in range(2000)]) for _ in range(4)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert running.result().estimate.flops.value == 8000


# ------------------------------------------------------------ the counters themselves


def rapl(root: Path, name: str, zone: str, micro: int, limit: int = 1_000_000) -> Path:
    folder = root / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{micro}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    return folder / "energy_uj"


def test_rapl_adds_packages_and_memory_once_and_survives_the_wrap(tmp_path: Path) -> None:
    package = rapl(tmp_path, "package-0", "intel-rapl:0", 900_000)
    rapl(tmp_path, "core", "intel-rapl:0:0", 5)  # inside the package: would count twice
    memory = rapl(tmp_path, "dram", "intel-rapl:0:1", 10)
    counter = RaplCounter.find(tmp_path)
    assert counter is not None
    assert counter.joules() == 0
    package.write_text("950000")
    memory.write_text("20010")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("999999")
    assert counter.joules() == pytest.approx(0.05 + 0.02)
    package.write_text("30000")  # wrapped at a million
    assert counter.joules() == pytest.approx(0.07 + 0.08)


def test_rapl_that_is_absent_or_may_not_be_read_is_none(tmp_path: Path) -> None:
    assert RaplCounter.find(tmp_path) is None
    rapl(tmp_path, "psys", "intel-rapl:1", 5)
    assert RaplCounter.find(tmp_path) is None
    rapl(tmp_path, "package-0", "intel-rapl:0", 5).unlink()
    assert RaplCounter.find(tmp_path) is None


class FakeNvml:
    def __init__(self) -> None:
        self.millijoules = [1000.0, 5000.0]

    def nvmlDeviceGetCount(self) -> int:
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> float:
        return self.millijoules[handle]


def test_nvml_counts_only_the_devices_in_use() -> None:
    nvml, in_use = FakeNvml(), []
    counter = NvmlCounter(nvml, lambda: in_use)
    nvml.millijoules = [9000.0, 6000.0]
    assert counter.joules() is None
    in_use.append(1)
    assert counter.joules() == pytest.approx(1.0)
    in_use.append(0)
    assert counter.joules() == pytest.approx(9.0)


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


# ------------------------------------------------------------ for real


def test_real_counters_measure_real_work() -> None:
    with Meter(tariffs=Tariffs.load()) as running:
        block = bytearray(60 << 20)
        for i in range(0, len(block), 4096):
            block[i] = 1
        start = time.process_time()
        while time.process_time() - start < 0.2:
            sum(range(1000))
        size = procfs.resident_bytes()
        del block
    found = running.result()
    assert 0.15 < found.cpu_seconds < 5
    assert found.estimate.seconds.value >= 0.2
    assert found.estimate.peak_memory.value >= size * 0.98
    assert found.estimate.energy.basis in ("modelled", "measured")


def test_the_meter_takes_less_than_a_hundredth_of_the_time(tmp_path: Path) -> None:
    running = Meter(tmp_path / "meter.json", Tariffs.load())
    with running:
        start = time.thread_time()
        for _ in range(20):
            running.beat()
        a_beat = (time.thread_time() - start) / 20
        start = time.thread_time()
        for _ in range(50):
            running._see_memory()
        a_sample = (time.thread_time() - start) / 50
    assert a_beat * 1 + a_sample * 10 < 0.01  # CPU seconds in each second: one beat and at most ten samples


CHILD = """
    import sys, time
    from pathlib import Path
    from arriero.cost.meter import Meter
    with Meter(Path(sys.argv[1])) as meter:
        meter.count_flops(1000)
        print("running", flush=True)
        while True:
            sum(range(10000))
"""


def test_kill_dash_nine_loses_at_most_the_last_second(tmp_path: Path) -> None:
    file = tmp_path / "meter.json"
    spent = 0.0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(file)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        start = time.monotonic()
        time.sleep(1.6)
        child.send_signal(signal.SIGKILL)
        spent += time.monotonic() - start
        child.wait()
        child.stdout.close()
    with Meter(file) as last:
        pass
    found = last.result()
    assert found.segments == 3
    assert spent - 2 * 1.3 <= found.estimate.seconds.value <= spent + 0.3
    assert found.estimate.flops.value == 2000
    assert found.cpu_seconds > 0.5
