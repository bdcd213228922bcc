from __future__ import annotations

from pathlib import Path

import pytest

from arriero.cost.hardware import find, known, load
from arriero.cost.tariff_tables import price_table
from arriero.errors import ArrieroError

OWN = """
sources:
  sticker: {source: "the box it came in", as_of: "2026-11", confidence: low}
devices:
  - name: Homebrew-9
    aliases: ["HB9"]
    figures:
      memory_gib: {value: 48, from: sticker}
      bf16_tflops: {value: 100, from: sticker}
"""


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("H100", "H100-SXM5-80GB"), ("h100-80gb", "H100-SXM5-80GB"), ("h100_80gb", "H100-SXM5-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"), ("NVIDIA H200", "H200-SXM-141GB"), ("b200", "B200-SXM-180GB"),
        ("A100 40GB", "A100-SXM4-40GB"), ("a100-80", "A100-SXM4-80GB"), ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("A100 80GB PCIe", "A100-PCIe-80GB"), ("NVIDIA GeForce RTX 4090", "RTX-4090"), ("tpu v4", "TPU-v4 (chip)"),
    ],
)  # fmt: skip
def test_devices_are_found_by_their_usual_names(said: str, name: str) -> None:
    assert find(said).name == name


@pytest.mark.parametrize(
    "said", ["H800", "L40", "T4", "MI300A", "A1000", "", "NVIDIA", "H100 NVL", "H100-8", "A100X"]
)
def test_a_name_that_is_not_listed_is_nobody_elses(said: str) -> None:
    with pytest.raises(ArrieroError, match="no device"):
        find(said)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ArrieroError, match="did you mean 'H200-SXM-141GB'"):
        find("H20O")


def test_a_name_that_may_be_several_has_to_be_told_apart() -> None:
    with pytest.raises(ArrieroError, match=r"A100-SXM4-40GB, A100-SXM4-80GB.*say which"):
        find("A100")


def test_figures_are_dense_and_in_si_units() -> None:
    h100 = find("H100")
    assert h100.peak("bf16") == pytest.approx(989e12)  # the sheet's 1,979 is for structured sparsity
    assert h100.bandwidth == pytest.approx(3.35e12)
    assert h100.tdp_w == 700
    assert h100.memory_bytes == pytest.approx(79.1 * 2**30)
    assert h100.intra_bandwidth == pytest.approx(450e9)
    assert h100.peak("int8") == pytest.approx(1979e12)


def test_what_nobody_knows_is_unknown() -> None:
    v100 = find("V100")
    assert v100.peak("bf16") is None
    assert not v100.quantity("bf16_tflops").known
    assert "V100" in v100.quantity("bf16_tflops").source
    assert find("TPU v5e").quantity("tdp_w").value is None
    with pytest.raises(ArrieroError, match="did you mean 'bf16_tflops'"):
        v100.get("bf16_tflop")


def test_every_figure_says_where_it_is_from() -> None:
    for device in known():
        assert device.figures.keys() == device.provenance.keys()
        for name in device.figures:
            found = device.quantity(name)
            assert found.known
            assert device.provenance[name].source
            assert device.provenance[name].as_of in found.source


def test_names_are_unambiguous() -> None:
    for device in known():
        for name in (device.name, *device.aliases, *device.drivers):
            assert find(name) is device


def test_rated_power_is_that_of_the_price_table() -> None:
    rows = {row.name: row for row in price_table().accelerators}
    both = [device for device in known() if device.name in rows]
    assert len(both) > 15
    for device in both:
        assert device.tdp_w == rows[device.name].tdp_w, device.name


def test_dense_rates_halve_with_twice_the_width() -> None:
    for device in known():
        narrow, wide = device.peak("fp8"), device.peak("bf16")
        if narrow is not None and wide is not None:
            assert narrow == pytest.approx(2 * wide, rel=0.02), device.name


def test_a_device_of_ones_own_goes_before_the_shipped(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace('"HB9"', '"HB9", "H100"'))
    own = load(file)
    assert find("hb-9", own).peak("bf16") == pytest.approx(100e12)
    assert find("H100", own).name == "Homebrew-9"
    assert find("H200", own).name == "H200-SXM-141GB"
    assert own[0].bandwidth is None
    assert own[0].quantity("memory_gib").source == "the box it came in (2026-11, low)"


def test_ones_own_devices_are_found_by_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))
    shipped = len(known())
    (tmp_path / "hardware.yaml").write_text(OWN)
    assert find("HB9").name == "Homebrew-9"
    assert len(known()) == shipped + 1
    (tmp_path / "hardware.yaml").write_text(OWN.replace("Homebrew-9", "L4"))
    assert find("l4").peak("bf16") == pytest.approx(100e12)
    assert len(known()) == shipped


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bf16_tflops", "bf16_tflop", "did you mean 'bf16_tflops'"),
        ("value: 100", "value: -1", "greater than 0"),
        ("from: sticker", "from: hearsay", "no source 'hearsay'"),
        ("devices:", "devices: [", "no YAML"),
        ("aliases", "alias", "alias"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_fault(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace(old, new))
    with pytest.raises(ArrieroError, match=message):
        load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")
