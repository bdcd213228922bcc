"""Every meter against a synthetic clock and a synthetic counter; kills and resumes; what it costs itself."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.cost import procfs
from arriero.cost.counters import Counters
from arriero.cost.counters_energy import Energy
from arriero.cost.meter import Measurement, Meter
from arriero.cost.meter_file import read_samples
from arriero.cost.quantity import Basis
from arriero.cost.tariffs import Machine, Tariffs

MACHINE = Machine("Test CPU", cores=4, threads=4)


class Synthetic:
    """Counters that stand still until they are told to move."""

    def __init__(self, *, exact_peak: bool = True) -> None:
        self.wall = self.boot = self.cpu = self.steal = self.cpu_pressure = self.memory_pressure = 0.0
        self.resident = self.peak = 100
        self.children = self.proportional = 0
        self.exact_peak = exact_peak
        self.package: FakeEnergy | None = None
        self.accelerator: FakeEnergy | None = None

    def counters(self) -> Counters:
        return Counters(
            wall=lambda: self.wall, boot=lambda: self.boot, cpu=lambda: self.cpu, steal=lambda: self.steal,
            cpu_pressure=lambda: self.cpu_pressure, memory_pressure=lambda: self.memory_pressure,
            children=lambda: self.children, proportional=lambda: self.proportional,
            resident=lambda: self.resident, peak=lambda: self.peak, reset_peak=lambda: self.exact_peak,
            package=self.package, accelerator=self.accelerator,
        )  # fmt: skip

    def use(self, wall: float = 0.0, cpu: float = 0.0, steal: float = 0.0) -> None:
        self.wall += wall
        self.boot += wall
        self.cpu += cpu
        self.steal += steal


class FakeEnergy:
    name = "fake"

    def __init__(self, joules: float | None = 0.0, basis: Basis = "measured") -> None:
        self.value, self.basis, self.filled = joules, basis, 0.0

    def observe(self, now: float) -> Energy | None:
        return Energy(self.value, self.filled) if self.value is not None else None

    def faults(self) -> list[str]:
        return ["fake stood still"] if self.filled else []


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
    file = tmp_path / "meter.jsonl"
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
    samples = read_samples(file)
    assert [process[-1].ended for process in samples] == [False, True, True]
    assert [[s.wall_seconds for s in process] for process in samples] == [[0, 5, 5], [0, 7], [0, 1]]


def test_an_interrupted_stage_keeps_its_seconds(tmp_path: Path) -> None:
    world, file = Synthetic(), tmp_path / "meter.jsonl"
    with pytest.raises(KeyboardInterrupt), meter(world, file):
        world.use(wall=3)
        raise KeyboardInterrupt
    with meter(world, file) as again:
        world.use(wall=4)
    assert again.result().estimate.seconds.value == 7


@pytest.mark.parametrize(
    "content", ['{"segments": [{"wall_seconds": 1}]}', "[]", '{"format": "x"}\n[1]', "3"]
)
def test_a_spoilt_file_is_told_and_does_not_stop_the_stage(tmp_path: Path, content: str) -> None:
    file = tmp_path / "meter.jsonl"
    file.write_text(content)
    world = Synthetic()
    with meter(world, file) as running:
        world.use(wall=2)
    found = running.result()
    assert found.estimate.seconds.value == 2
    assert any("could not be read" in note for note in found.notes)
    assert (tmp_path / "meter.jsonl.damaged").read_text() == content, "it is kept for whoever wants to look"
    with meter(world, file) as again:
        world.use(wall=3)
    assert again.result().estimate.seconds.value == 5, "and what was metered since is counted"


def test_a_disk_that_takes_nothing_is_told_and_does_not_stop_the_stage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    world = Synthetic()
    with meter(world, tmp_path / "file" / "meter.jsonl") as running:
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
        deadline = time.monotonic() + 30
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


# ------------------------------------------------------------ a wrong meter is impossible to miss


def test_a_clock_that_is_set_back_counts_nothing_and_is_told() -> None:
    world = Synthetic()
    with meter(world) as running:
        world.use(wall=10)
        running.beat()
        world.use(wall=-1000)
        running.beat()
        world.use(wall=5)
    found = running.result()
    assert found.estimate.seconds.value == pytest.approx(15)
    assert found.disturbed and "a clock jumped by 1000 s" in " ".join(found.disturbances)


@pytest.mark.parametrize("clock", ["wall", "boot"])
def test_a_clock_that_jumps_alone_is_not_believed(clock: str) -> None:
    world = Synthetic()
    with meter(world) as running:
        world.use(wall=10)
        running.beat()
        setattr(world, clock, getattr(world, clock) + 86_400)
        world.use(wall=1)
        running.beat()
        world.use(wall=4)
    found = running.result()
    assert found.estimate.seconds.value == pytest.approx(15)
    told = "a clock jumped by 86400 s" if clock == "wall" else "the machine slept for 86400 s"
    assert told in " ".join(found.disturbances)


def test_a_pause_without_samples_counts_as_held_and_is_told() -> None:
    world = Synthetic()
    with meter(world) as running:
        world.use(wall=20)
        running.beat()
        world.use(wall=600)  # SIGSTOP: both clocks run on, and so does the bill
        running.beat()
    found = running.result()
    assert found.estimate.seconds.value == 620
    assert found.disturbances == [
        "no sample for 600 s in stretches of over 30 s: the process or the machine was held"
    ]


@pytest.mark.parametrize(
    ("name", "calm", "busy", "told"),
    [
        ("steal", 0.7, 0.9, "the hypervisor took 0.9 CPU seconds away"),
        ("cpu_pressure", 0.9, 1.1, "tasks waited for a processor 11% of the time"),
        ("memory_pressure", 0.1, 0.3, "everything waited for memory 3% of the time"),
    ],
)
def test_a_busy_machine_is_told_and_a_calm_one_is_not(name: str, calm: float, busy: float, told: str) -> None:
    for seconds, expected in ((calm, False), (busy, True)):
        world = Synthetic()
        with meter(world) as running:
            world.use(wall=10, cpu=10)
            setattr(world, name, seconds)
        found = running.result()
        assert found.disturbed is expected
        assert (told in " ".join(found.disturbances)) is expected
        assert (told in " ".join(found.notes)) is expected


def test_children_count_with_what_they_hold_beside_the_process() -> None:
    world = Synthetic()
    with meter(world) as running:
        world.resident, world.peak, world.children, world.proportional = 500, 600, 250, 640
        running.beat()
        world.resident, world.children = 400, 0
    found = running.result()
    assert found.estimate.peak_memory.value == 750
    assert found.proportional_bytes == 640


def test_the_proportional_memory_is_read_as_seldom_as_it_is_dear() -> None:
    world, reads = Synthetic(), []

    def dear() -> int:
        reads.append(world.wall)
        world.use(wall=0.3)
        return 7

    counters = world.counters()
    counters.proportional = dear
    running = Meter(counters=counters, machine=MACHINE, background=False)
    with running:
        for _ in range(300):
            world.use(wall=1)
            running.beat()
    assert 2 <= len(reads) <= 5
    assert len(reads) * 0.3 < 0.01 * world.wall


def test_energy_that_was_filled_in_is_no_measurement_and_the_share_is_told() -> None:
    world = Synthetic()
    world.package = FakeEnergy()
    with meter(world, tariffs=Tariffs.load()) as running:
        world.use(wall=10, cpu=10)
        world.package.value, world.package.filled = 75.0, 25.0
    found = running.result()
    energy = found.estimate.energy
    assert (energy.low, energy.value, energy.high, energy.basis) == (75, 100, 125, "modelled")
    assert found.assumed_share == pytest.approx(0.25)
    assert energy.source.startswith("25 % of this energy is assumed")
    assert "fake stood still" in found.notes
    assert found.estimate.co2.known, "three quarters of the power are counted"


def test_a_power_that_was_polled_is_modelled_with_a_band() -> None:
    world = Synthetic()
    world.package, world.accelerator = FakeEnergy(), FakeEnergy(basis="modelled")
    with meter(world) as running:
        world.package.value, world.accelerator.value = 40.0, 60.0
    found = running.result()
    energy = found.estimate.energy
    assert energy.basis == "modelled" and energy.low < 100 < energy.high and energy.value == 100
    assert found.assumed_share == pytest.approx(0.6)
    assert energy.source.startswith("60 % of this energy is assumed")


def test_a_process_without_a_counter_is_modelled_beside_one_with(tmp_path: Path) -> None:
    world, file = Synthetic(), tmp_path / "meter.jsonl"
    world.package = FakeEnergy()
    with meter(world, file, Tariffs.load()):
        world.use(wall=10, cpu=40)
        world.package.value = 100.0
    world.package = None  # gone on with where the counter may not be read
    with meter(world, file, Tariffs.load()) as second:
        world.use(wall=10, cpu=40)
    found = second.result()
    assert found.estimate.energy.value == pytest.approx(100 + 160, rel=0.01)
    assert found.assumed_share == pytest.approx(160 / 260, abs=0.01)


def test_why_there_is_no_counter_is_told() -> None:
    counters = Synthetic().counters()
    counters.missing = {"package": "energy_uj may only be read by root"}
    with Meter(counters=counters, machine=MACHINE, background=False) as running:
        pass
    assert running.result().estimate.energy.source == "energy_uj may only be read by root"
    with Meter(None, Tariffs.load(), counters=counters, machine=MACHINE, background=False) as running:
        pass
    modelled = running.result().estimate.energy
    assert modelled.basis == "modelled" and "energy_uj may only be read by root" in modelled.source


def test_a_listed_accelerator_without_a_counter_is_modelled_and_an_unlisted_one_unknown() -> None:
    for name, known in (("NVIDIA H200", True), ("Acme", False)):
        world = Synthetic()
        machine = Machine("Test CPU", 4, 4, "cuda", name)
        running = Meter(tariffs=Tariffs.load(), counters=world.counters(), machine=machine, background=False)
        with running:
            world.use(wall=10)
        energy = running.result().estimate.energy
        assert energy.known is known
        if known:
            assert energy.basis == "modelled" and energy.value > 0.7 * 700 * 10


# ------------------------------------------------------------ for real


@pytest.mark.alone
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


@pytest.mark.alone
def test_the_meter_takes_less_than_a_hundredth_of_the_time(tmp_path: Path) -> None:
    running = Meter(tmp_path / "meter.jsonl", Tariffs.load())
    with running:
        start = time.thread_time()
        for _ in range(50):
            running.beat()
        a_beat = (time.thread_time() - start) / 50
        start = time.thread_time()
        for _ in range(50):
            running._see_memory()
        a_sample = (time.thread_time() - start) / 50
    assert a_beat * 1 + a_sample * 10 < 0.01  # CPU seconds in each second: one beat and at most ten samples


BURNER = """
    import sys, time
    block = bytearray(80 << 20)
    for i in range(0, len(block), 4096): block[i] = 1
    end = time.process_time() + 0.6
    while time.process_time() < end: sum(range(10000))
    print("burnt", flush=True); sys.stdin.read()
"""


@pytest.mark.alone
def test_a_child_process_is_counted_while_it_lives_and_after() -> None:
    with Meter() as running:
        before = running.result()
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BURNER)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        alive = running.result()
        child.stdin.close()
        child.wait()
        child.stdout.close()
        ended = running.result()
    assert alive.cpu_seconds - before.cpu_seconds >= 0.55
    assert ended.cpu_seconds >= alive.cpu_seconds, (
        "its time moves to its parent's account, and is not lost or doubled"
    )
    assert ended.cpu_seconds - alive.cpu_seconds < 0.5
    grown = (alive.estimate.peak_memory.value or 0) - (before.estimate.peak_memory.value or 0)
    assert grown > 75 << 20


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


def kill_at_random(file: Path, kills: int, longest: float, chance: random.Random) -> float:
    """Start, let work for a while, kill from outside; returns the seconds that the processes were seen at work."""
    seen = 0.0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(file)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        start = time.monotonic()
        time.sleep(chance.uniform(0.1, longest))
        child.send_signal(signal.SIGKILL)
        seen += time.monotonic() - start
        child.wait()
        child.stdout.close()
    return seen


def check_kills(file: Path, seen: float, kills: int) -> None:
    with Meter(file) as last:
        pass
    found = last.result()
    assert found.segments == kills + 1
    assert seen - kills * 1.2 <= found.estimate.seconds.value <= seen + kills * 0.1
    assert (found.estimate.flops.value or 0.0) in [1000.0 * beaten for beaten in range(kills + 1)]
    assert sum(f"{kills} earlier run(s) were killed" in note for note in found.notes) == 1


@pytest.mark.alone
def test_kill_dash_nine_loses_at_most_the_last_second(tmp_path: Path) -> None:
    file = tmp_path / "meter.jsonl"
    check_kills(file, kill_at_random(file, 2, 1.9, random.Random(1)), 2)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_five_kills_at_random_moments_count_each_second_once(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "meter.jsonl"
    check_kills(file, kill_at_random(file, 5, 4.0, random.Random(seed)), 5)


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 400), kills=st.integers(1, 4), data=st.data())
def test_a_file_cut_anywhere_never_counts_more_than_was_used(
    tmp_path_factory: pytest.TempPathFactory, cut: int, kills: int, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("meter") / "meter.jsonl"
    world, used = Synthetic(), 0.0
    for _ in range(kills):
        killed = meter(world, file)
        killed.__enter__()
        for _ in range(data.draw(st.integers(0, 3))):
            world.use(wall=1.0)
            used += 1.0
            killed.beat()
        torn = file.read_bytes()
        file.write_bytes(torn[: max(0, len(torn) - cut)])  # the power went: the end never reached the disk
    with meter(world, file) as last:
        world.use(wall=2)
    assert 2 <= last.result().estimate.seconds.value <= used + 2 + 1e-9
    assert cut > 0 or last.result().estimate.seconds.value == pytest.approx(used + 2)


@pytest.mark.alone
def test_samples_come_in_time_beside_a_thread_that_keeps_the_interpreters_lock(tmp_path: Path) -> None:
    """It lets go for a moment at every look, and takes the lock again before a waiting thread has woken."""
    nowhere = tmp_path / "nowhere"
    with Meter(tmp_path / "meter.jsonl"):
        end = time.monotonic() + 5.6
        while time.monotonic() < end:
            nowhere.exists()
            sum(range(10000))
        (samples,) = read_samples(tmp_path / "meter.jsonl")
    assert len(samples) >= 5, "one at once, and one a second"
    assert sys.getswitchinterval() == pytest.approx(0.005)
