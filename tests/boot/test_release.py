"""Machines and their server: what is released, what is refused, and what whoever has the disk can do."""

import disk

APPROVED = "context.boot.approved"
MEMORY = "context.boot.memory_encrypted"


def test_a_machine_that_is_allowed_opens_its_disk(enrol, server):
    guest = enrol()
    guest.opened()
    shown = server.machine(guest.enrolled)
    assert (shown["boots"], shown["confirmed"], shown["keeps_token"]) == (1, True, True)


def test_a_machine_that_no_policy_allows_halts_and_says_so(enrol, server):
    guest = enrol(policy="context.boot.counter > 1000000")
    guest.settings["contact"] = "the people at the desk"
    console = guest.refused("policy")
    assert "the people at the desk" in console
    assert server.machine(guest.enrolled)["refused"]["code"] == "policy"


def test_a_machine_without_evidence_is_told_that_its_memory_is_not_proved(enrol):
    assert "Security violation" in enrol(policy=MEMORY).refused("policy-memory")


def test_a_server_that_comes_back_is_found(enrol, server):
    guest = enrol()
    guest.settings["attempts"] = 100
    server.stop()
    with guest.boot() as machine:
        machine.expect("keyhearth: https://10.0.2.2.*: ")
        server.start()
        assert machine.end() == "off", machine.console
    assert disk.PROOF in machine.console


def test_another_release_key_is_not_believed(enrol, alone):
    guest = enrol()
    guest.settings["release_key"] = alone.settings["release_key"]
    guest.refused("forged")


def test_another_deployment_is_not_believed(enrol, alone):
    guest = enrol()
    guest.settings["server"] = alone.settings["server"]
    guest.refused("other-server")


def test_a_server_of_another_ca_is_not_asked(enrol, alone):
    guest = enrol()
    guest.files["etc/keyhearth/ca.pem"] = alone.files["etc/keyhearth/ca.pem"]
    guest.refused("unreachable")


def test_a_header_that_is_not_the_one_enrolled_is_refused(enrol):
    guest = enrol()

    def another_keyslot(header):
        header["keyslots"]["0"]["kdf"]["iterations"] += 1

    disk.rewrite_header(guest.disk, another_keyslot)
    guest.refused("header-differs")


def test_a_boot_waits_for_an_approval_and_goes_on_when_it_is_given(enrol, server):
    guest = enrol(policy=APPROVED)
    with guest.boot() as machine:
        approval = machine.expect(r"Approval +([0-9a-f-]{36})")[1]
        server.decide(approval)
        assert machine.end() == "off", machine.console
    assert disk.PROOF in machine.console


def test_a_boot_that_somebody_denies_halts(enrol, server):
    guest = enrol(policy=APPROVED)
    with guest.boot() as machine:
        server.decide(machine.expect(r"Approval +([0-9a-f-]{36})")[1], approve=False)
        assert machine.end() == "halted", machine.console
    assert "approval-denied" in machine.console


def test_a_copy_waits_while_the_machine_runs(enrol, server):
    guest = enrol()
    copy = guest.copy_disk("copy")
    guest.files["scripts/after"] = "echo init: running; sleep 1000"
    with guest.boot() as machine:
        machine.expect("init: running")
        guest.disk = copy
        with guest.boot() as second:
            second.expect("busy, status 503")
        assert disk.PROOF not in second.console
    assert server.machine(guest.enrolled)["refused"]["code"] == "leased"


def test_a_disk_that_was_put_back_is_noticed(machine, serve):
    with serve(lease_s=1) as server:
        guest = machine(server)
        old = guest.copy_disk("old")
        guest.opened()
        guest.opened()
        guest.disk = old
        console = guest.stopped()
        assert "token-stale" in console and "Security violation" in console and "init: done" not in console, console
