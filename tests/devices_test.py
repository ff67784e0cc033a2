"""What a process may use of its machine."""

import os

import jax
import pytest

from lvm_jax.sweep import devices

_NONE = 9223372036854771712  # of version 1, where there is no limit


def _write(root, files, groups):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    own = root / "own"
    own.write_text("".join(f"{group}\n" for group in groups))
    return list(devices.control_group_limits(root, own))


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({"memory.max": 10**9}, ["0::/"], [10**9]),
        ({"memory.max": 10**9}, ["0::/not/seen/from/inside"], [10**9]),
        (
            {"a/b/memory.max": "max", "a/memory.max": 2 * 10**9},
            ["0::/a/b"],
            [2 * 10**9],
        ),
        (
            {
                "memory/c/memory.limit_in_bytes": 5,
                "memory/memory.limit_in_bytes": _NONE,
            },
            ["7:cpu,cpuacct:/c", "4:hugetlb,memory:/c", "0::/"],
            [5, _NONE],
        ),
        ({"memory.max": "max"}, ["0::/"], []),
        ({}, [], []),
    ],
)
def test_limits_are_those_of_the_groups_around_a_process(
    tmp_path, files, groups, expected
):
    assert _write(tmp_path, files, groups) == expected


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path):
    assert not list(devices.control_group_limits(tmp_path, tmp_path / "none"))


def test_host_devices_share_what_a_container_may_have(monkeypatch):
    own = jax.devices()
    monkeypatch.setattr(devices, "control_group_limits", lambda: iter([3 * 2**20]))
    assert devices.memory(own) == 3 * 2**20 // len(own)
    monkeypatch.setattr(devices, "control_group_limits", lambda: iter([_NONE]))
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert devices.memory(own) == machine // len(own)
