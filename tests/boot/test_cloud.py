"""Machines that show what their cloud says of them. The cloud's metadata service is a stand-in: none can be installed."""

import pytest

from cloud import Cloud
from server import HOST

OURS, THEIRS = "123456789012", "210987654321"


def policy(provider, fresh):
    wanted = {"provider": provider, "account": OURS, "fresh": fresh}
    says = 'context.boot.hasTag("cloud.{0}") && context.boot.getTag("cloud.{0}") == "{1}"'
    return " && ".join(says.format(*claim) for claim in wanted.items())


@pytest.mark.parametrize(("provider", "fresh"), [("aws", "false"), ("gcp", "true")])
def test_a_machine_opens_its_disk_in_the_right_account_alone(enrol, server, provider, fresh):
    for account in (OURS, THEIRS):
        guest = enrol(policy=policy(provider, fresh))
        with Cloud(account) as cloud:
            cloud.believed_by(server)
            guest.settings |= {"cloud": provider, "metadata": f"http://{HOST}:{cloud.port}"}
            if account == OURS:
                guest.opened()
            else:
                guest.refused("policy")


def test_a_document_that_nobody_signed_whom_the_server_believes_is_refused(enrol, server):
    guest = enrol()
    with Cloud(OURS) as cloud, Cloud(OURS) as other:
        cloud.believed_by(server)
        guest.settings |= {"cloud": "aws", "metadata": f"http://{HOST}:{other.port}"}
        guest.refused("cloud-signature")


def test_without_a_metadata_service_the_policy_decides(enrol):
    guest = enrol()
    guest.settings |= {"cloud": "aws", "metadata": f"http://{HOST}:1"}
    assert "no document of aws, going on without" in guest.opened()
