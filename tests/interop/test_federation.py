"""A station under test and a reference station with a bridge, as neighbours: flow F9, both ways

The bridge is the reference's, then `dims bridge` with the reference's config.ini in its place. A station
of the reference learns the IDs of its neighbours from its own bridge, which has to have run once.
"""
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
from test_bots import dims  # noqa: F401

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

    def start_bridge(self, dims=None):  # noqa: F811
        """of the reference, or of `dims` with the reference's settings"""
        ours = [dims, 'bridge', '--config=' + os.path.join(self.root, 'config.ini')]
        cmd, env = (ours, dict(os.environ)) if dims else (shlex.split(self.cmd) + ['bridge'], self.env())
        for name in ('DIM_PORT', 'DIM_DATA_DIR') if dims else ():
            env.pop(name, None)
        with open(os.path.join(self.root, 'bridge.log'), 'ab') as log:
            self.bridge = subprocess.Popen(cmd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop_bridge(self):
        if self.bridge:
            self.bridge.kill()
            self.bridge.wait(15)

    def learn(self, neighbor):
        """waits until it has written down who stands at its neighbour's place"""
        path, deadline = os.path.join(self.root, 'public', 'everywhere', 'stations.js'), time.monotonic() + 30
        while True:
            with open(path) as f:
                if neighbor in f.read():
                    return
            assert time.monotonic() < deadline, f'{neighbor} is not in {path}'
            time.sleep(0.1)

    def finish(self):
        self.stop_bridge()
        if self.root:
            super().finish()


def log_of(station):
    with open(os.path.join(station.root, 'station.log'), 'rb') as f:
        return f.read().decode('utf-8', 'replace')


def until_logged_in(ours, theirs, times):
    deadline = time.monotonic() + 60
    while log_of(ours).count(f'logged in user={theirs.id}') < times:
        assert time.monotonic() < deadline, log_of(ours)
        time.sleep(0.2)


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


@pytest.fixture(scope='module', params=['the reference\'s bridge', 'dims bridge'])
def neighbors(request):
    """our station with its link, and the reference with a bridge; the bridge of dims is the only way"""
    bridge = request.getfixturevalue('dims') if request.param == 'dims bridge' else None
    ours = make_station()
    if not ours.controllable:
        pytest.skip('needs DIM_STATION_CMD')
    ours.port = free_port()
    theirs = Reference(f'127.0.0.1:{ours.port}')
    try:
        theirs.start()
        ours.start()
        # which names itself at the first start; then it is told of its neighbour
        port = free_port() if bridge else theirs.port
        place = f'{{ id = "{theirs.id}", host = "127.0.0.1", port = {port} }}'
        with open(os.path.join(ours.root, 'station.toml'), 'w') as f:
            f.write(f'[neighbors]\nlist = [{place}]\n[log]\nlevel = "info,dim::shard=debug"\n')
        ours.restart()
        theirs.start_bridge()
        until_logged_in(ours, theirs, 1 if bridge else 2)
        with open(os.path.join(ours.root, 'station.id')) as f:
            own = f.read().strip()
        if bridge:
            theirs.learn(own)
            theirs.stop_bridge()
            theirs.restart()  # or it believes for minutes what it read before
            theirs.start_bridge(bridge)
            until_logged_in(ours, theirs, 2)
        asyncio.run(until_it_spreads(theirs, own))
        yield ours, theirs
        assert ('neighbour reached' in log_of(ours)) == (bridge is None)
        assert theirs.bridge.poll() is None, 'the bridge has ended'
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
    # the latter is what the reference says when no session of its neighbour is there
    assert said['text'] in ('Message redirected.', 'Message redirected via station bridge.')
    assert said.get('neighbor') == where
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
    sent = [(alice, sent)]
    for content in [text(f'message {n}') for n in range(20)]:
        for sender, receiver in ((bob, alice), (alice, bob)):
            message, _ = await write(sender, receiver, content, receiver.station)
            sent.append((receiver, message))
    for client in (alice, bob):
        await client.ping()
    assert [len(receiver.copies(message['signature'])) for receiver, message in sent] == [1] * 41
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
