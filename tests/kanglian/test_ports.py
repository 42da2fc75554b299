import os
import socket

import pytest

from kanglian.ports import PortError, listen


def test_a_taken_port_names_its_holder_and_the_setting() -> None:
    with listen("127.0.0.1", 0, "KANGLIAN_PORT") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError) as refused:
            listen("127.0.0.1", port, "KANGLIAN_PORT")
    assert f"process {os.getpid()}" in str(refused.value)
    assert "KANGLIAN_PORT=" in str(refused.value)


def test_a_port_is_free_again_while_old_connections_close() -> None:
    with listen("127.0.0.1", 0, "KANGLIAN_PORT") as first:
        port = first.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        first.setblocking(True)  # noqa: FBT003 - the standard library's signature
        server, _ = first.accept()
        server.close()
    client.close()
    listen("127.0.0.1", port, "KANGLIAN_PORT").close()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(PortError, match="KANGLIAN_HOST"):
        listen("192.0.2.1", 0, "KANGLIAN_PORT")
