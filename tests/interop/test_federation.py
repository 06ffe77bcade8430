"""A station under test and a reference station with its bridge, as neighbours: flow F9, both ways"""
import asyncio
import json
import os
import shlex
import subprocess
import sys
import time

import pytest
from conftest import REFERENCE, SHARED, Station, free_port, make_station
from dimwire import EVERYONE, Account, RawClient, command, text

# the first test waits for the reference, see until_it_spreads
pytestmark = [pytest.mark.skipif(REFERENCE, reason='needs a station of ours'), pytest.mark.timeout(300)]


class Reference(Station):
    """the reference, which knows one neighbour by its place"""

    def __init__(self, neighbor):
        script = shlex.quote(os.path.join(SHARED, 'reference_station.py'))
        cmd = f'{shlex.quote(sys.executable)} {script}'
        super().__init__(cmd=cmd, cleanup=cmd + ' cleanup')
        self.neighbor, self.bridge = neighbor, None

    def env(self):
        return {**super().env(), 'DIM_NEIGHBORS': self.neighbor, 'DIM_ANS': ''}

    @property
    def id(self):
        with open(os.path.join(self.root, 'station.id')) as f:
            return f.read().strip()

    def start_bridge(self):
        log = open(os.path.join(self.root, 'bridge.log'), 'ab')
        self.bridge = subprocess.Popen(shlex.split(self.cmd) + ['bridge'], env=self.env(),
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def finish(self):
        if self.bridge:
            self.bridge.kill()
            self.bridge.wait(15)
        if self.root:
            super().finish()


def log_of(station):
    with open(os.path.join(station.root, 'station.log'), 'rb') as f:
        return f.read().decode('utf-8', 'replace')


async def until_it_spreads(station, where):
    """the reference remembers for 128 s that it had no neighbours when the link was made"""
    probe = RawClient(station.host, station.port, Account('Probe'))
    await probe.open()
    await probe.handshake()
    deadline = time.monotonic() + 200
    while True:
        start = len(probe.inbox)
        await probe.send(probe.account.plain(EVERYONE, login_at(probe, station)))
        try:
            await probe.wait(lambda m, c: c and c.get('neighbor') == where, timeout=4, start=start)
            return await probe.close()
        except TimeoutError:
            await probe.ping()
            assert time.monotonic() < deadline, 'the reference does not spread a login'


@pytest.fixture(scope='module')
def neighbors():
    """our station with its link, and the reference with its bridge"""
    ours = make_station()
    if not ours.controllable:
        pytest.skip('needs DIM_STATION_CMD')
    ours.port = free_port()
    theirs = Reference(f'127.0.0.1:{ours.port}')
    try:
        theirs.start()
        ours.start()
        # which names itself at the first start; then it is told of its neighbour
        place = f'{{ id = "{theirs.id}", host = "127.0.0.1", port = {theirs.port} }}'
        with open(os.path.join(ours.root, 'station.toml'), 'w') as f:
            f.write(f'[neighbors]\nlist = [{place}]\n[log]\nlevel = "info,dim::shard=debug"\n')
        ours.restart()
        theirs.start_bridge()
        deadline = time.monotonic() + 60
        while log_of(ours).count(f'logged in user={theirs.id}') < 2:
            assert time.monotonic() < deadline, log_of(ours)
            time.sleep(0.2)
        with open(os.path.join(ours.root, 'station.id')) as f:
            own = f.read().strip()
        asyncio.run(until_it_spreads(theirs, own))
        yield ours, theirs
    finally:
        theirs.finish()
        ours.finish()


def login_at(client, station):
    did = client.account.id
    return command('login', did=did, ID=did, agent='interop', station={
        'did': client.station, 'ID': client.station, 'host': station.host, 'port': station.port})


async def arrive(account, station):
    """logs in and lets everybody know who and where"""
    client = RawClient(station.host, station.port, account)
    await client.open()
    await client.handshake()
    a = account
    visa = command('documents', did=a.id, ID=a.id, meta=a.meta, documents=[a.visa])
    for content in (visa, login_at(client, station)):
        await client.send(a.plain(EVERYONE, content, attach=True))
    await client.wait(lambda m, c: c and c.get('text') == 'Login received.')
    return client


async def knows(client, station, who):
    """asks a station until it has somebody's account"""
    deadline = time.monotonic() + 60
    while True:
        start = len(client.inbox)
        await client.ask(command('documents', did=who.id, ID=who.id))
        _, said = await client.wait(lambda m, c: c and (
            c.get('document') or c.get('documents') or 'ocument not found' in str(c.get('text'))),
            start=start)
        if said.get('text') is None:
            return
        assert time.monotonic() < deadline, f'{who.id} is not known at {station.port}'


async def write(sender, receiver, content, where):
    msg = sender.account.secret(receiver.account.id, content, visa=receiver.account.visa)
    await sender.send(msg)
    _, said = await sender.wait(lambda m, c: c and (c.get('origin') or {}).get('signature') == msg['signature'])
    assert (said['text'], said.get('neighbor')) == ('Message redirected.', where)
    got, inner = await receiver.wait(lambda m, c: m.get('signature') == msg['signature'], timeout=30)
    assert inner == content
    return msg, got


async def test_users_of_both_write_to_each_other(neighbors):
    ours, theirs = neighbors
    alice = await arrive(Account('Alice'), ours)
    bob = await arrive(Account('Bob'), theirs)
    # the spread login record is what a message finds its way by
    await knows(alice, ours, bob.account)
    await knows(bob, theirs, alice.account)
    _, got = await write(alice, bob, text('hello Bob'), bob.station)
    dids = [t.get('did') for t in got['traces']]
    assert dids == [alice.station, bob.station]
    sent, got = await write(bob, alice, text('hello Alice'), alice.station)
    assert [t.get('did') for t in got['traces']] == [bob.station, alice.station]
    more = [text(f'message {n}') for n in range(20)]
    for content in more:
        await write(bob, alice, content, alice.station)
        await write(alice, bob, content, bob.station)
    assert len(alice.copies(sent['signature'])) == 1
    await alice.close()
    await bob.close()


async def test_mail_follows_a_user_to_the_reference(neighbors):
    ours, theirs = neighbors
    carol, dave = Account('Carol'), Account('Dave')
    await (await arrive(dave, ours)).close()
    c = await arrive(carol, ours)
    sent = []
    for n in range(5):
        msg = carol.secret(dave.id, text(f'later {n}'), visa=dave.visa)
        await c.send(msg)
        await c.receipt(msg['signature'], text='Message cached.')
        sent.append(msg)
    d = await arrive(dave, theirs)
    for msg in sent:
        await d.wait(lambda m, _: m.get('signature') == msg['signature'], timeout=30)
    await c.close()
    await d.close()


async def test_a_question_to_the_reference_is_answered_through_ours(neighbors):
    ours, theirs = neighbors
    erin = await arrive(Account('Erin'), ours)
    frank = await arrive(Account('Frank'), theirs)
    await knows(frank, theirs, erin.account)
    visa = json.loads(json.dumps(frank.station_visa))
    ask = erin.account.secret(theirs.id, command('meta', did=frank.account.id, ID=frank.account.id),
                              visa=visa)
    await erin.send(ask)
    msg, said = await erin.wait(lambda m, c: c and c.get('command') == 'meta', timeout=30)
    assert msg['sender'] == theirs.id and said['did'] == frank.account.id
    await erin.close()
    await frank.close()
