"""Machines on SEV-SNP: what their hardware signs decides. The chain that signs is made, and the server believes it."""

import pytest

import snp
from snp import DEBUG, LEVELS, Hardware

MEMORY = "context.boot.memory_encrypted && context.boot.image_known"
REFERENCE = {"measurement": snp.MEASUREMENT.hex()}


@pytest.fixture
def guest(enrol):
    return enrol(policy=MEMORY, reference=REFERENCE)


def test_a_sound_report_gets_the_keys(guest, chain, server):
    with Hardware(chain) as hardware:
        guest.on_snp(hardware)
        guest.opened()
    assert "snp" in server.machine(guest.enrolled)["released"]["text"]


def forged(chain, asked):
    report = bytearray(chain.report(asked))
    report[0x90] ^= 1
    return bytes(report)


BROKEN = {
    "snp-debug": lambda chain, asked: chain.report(asked, policy=0x3001F | DEBUG),
    "snp-tcb-differs": lambda chain, asked: chain.report(asked, levels=(*LEVELS[:3], LEVELS[3] - 1)),
    "policy-image": lambda chain, asked: chain.report(asked, measurement=bytes(48)),
    "snp-signature": forged,
    "report-data-differs": lambda chain, asked: chain.report(bytes(64)),
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_report_that_is_not_good_enough_is_refused(guest, chain, code):
    with Hardware(chain, lambda asked: BROKEN[code](chain, asked)) as hardware:
        guest.on_snp(hardware)
        guest.refused(code)


def test_firmware_that_is_too_old_is_refused(enrol, chain):
    number = 'context.boot.numbers.hasTag("reported_tcb.snp") && context.boot.numbers.getTag("reported_tcb.snp")'
    guest, older = enrol(policy=f"{number} >= {LEVELS[2]}"), (*LEVELS[:2], LEVELS[2] - 1, LEVELS[3])
    with Hardware(chain) as hardware:
        guest.on_snp(hardware)
        hardware.chain, hardware.sign = chain.at(older), lambda asked: chain.report(asked, levels=older)
        guest.refused("policy")
        hardware.chain, hardware.sign = chain, chain.report
        guest.opened()


def test_a_report_of_an_earlier_boot_is_refused(guest, chain):
    with Hardware(chain) as hardware:
        guest.on_snp(hardware)
        guest.opened()
        _, old = hardware.given[-1]
        hardware.sign = lambda asked: old
        guest.refused("report-data-differs")


def test_a_report_of_another_machine_is_refused(guest, enrol, chain):
    """The other machine is sound, and even asks at the same time: its report is bound to its own request."""
    other = enrol(policy=MEMORY, reference=REFERENCE)
    with Hardware(chain) as hardware:
        other.on_snp(hardware)
        other.opened()
        with Hardware(chain, lambda asked: hardware.given[-1][1]) as relay:
            guest.on_snp(relay)
            guest.refused("report-data-differs")
