"""On one machine, the processes of a training can be reached from this machine only."""

import argparse
import socket

import pytest

from centermask_solo.training.launch import launch
from tests.training.listeners import listening_addresses, write_addresses


def test_the_test_sees_listeners():
    with socket.create_server(("127.0.0.1", 0)):
        assert "127.0.0.1" in listening_addresses()
        with socket.create_server(("", 0)):
            assert "0.0.0.0" in listening_addresses()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
@pytest.mark.parametrize("url", ["tcp://127.0.0.1:49999", "auto"])
def test_processes_listen_on_the_loopback_interface(url, tmp_path):
    arguments = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": url, "folder": str(tmp_path)}
    launch(write_addresses, argparse.Namespace(**arguments), on_cpu=True)
    found = {x for rank in "01" for x in (tmp_path / rank).read_text().splitlines()}
    assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
