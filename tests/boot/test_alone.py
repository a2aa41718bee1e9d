"""Machines that no server helps: they halt, say why, and never give a prompt."""

import disk


def test_a_server_that_is_away_is_asked_again_and_then_the_machine_halts(alone):
    console = alone.refused("unreachable")
    assert console.count("keyhearth: asking https://10.0.2.2") == alone.settings["attempts"]


def test_a_header_that_says_not_to_encrypt_is_not_opened(alone):
    def null_cipher(header):
        header["segments"]["0"]["encryption"] = "cipher_null-ecb"

    disk.rewrite_header(alone.disk, null_cipher)
    console = alone.refused("luks-cipher")
    assert "cipher_null-ecb" in console and "asking" not in console


def test_a_configuration_that_cannot_be_read_halts_the_machine(alone):
    alone.settings["servers"] = []
    alone.refused("config")


def test_a_command_line_that_asks_for_a_shell_gets_no_key(alone):
    alone.command_line += " break=premount"
    console = alone.refused(None)
    assert "'break=premount'" in console and "asking" not in console


def test_an_agent_that_dies_halts_the_machine(alone):
    alone.files["sbin/keyhearth-boot"] = "#!/bin/sh\nkill -9 $$\n"
    alone.refused(None)
