"""Rings of three stations, some of them the reference with its bridge: everybody writes to everybody

    tests/interop/run test_rings.py       some minutes: the reference is slow to notice neighbours
"""
import asyncio
import os
import signal
import time

import pytest
import pytest_asyncio
from conftest import REFERENCE, free_port, make_station
from dimwire import EVERYONE, Account, command, text
from test_federation import Reference, arrive, knows, log_of, until_it_spreads

pytestmark = [pytest.mark.skipif(REFERENCE, reason='needs a station of ours'), pytest.mark.timeout(600)]

ROUNDS = 3
PATIENCE = 60


class Ring:
    """three stations that all know each other"""

    def __init__(self, kinds):
        ports = [free_port() for _ in kinds]
        self.stations = []
        for kind, port in zip(kinds, ports):
            others = ','.join(f'127.0.0.1:{other}' for other in ports if other != port)
            station = Reference(others) if kind == 'reference' else make_station()
            station.port = port
            self.stations.append(station)
        self.references = [s for s in self.stations if isinstance(s, Reference)]
        self.ours = [s for s in self.stations if s not in self.references]

    async def start(self):
        for station in self.stations:
            station.start()
            station.did = await self.named(station)
        # each has named itself; now they are told of each other
        for station in self.ours:
            places = ', '.join(f'{{ id = "{s.did}", host = "127.0.0.1", port = {s.port} }}'
                               for s in self.stations if s is not station)
            with open(os.path.join(station.root, 'station.toml'), 'w') as f:
                f.write(f'[neighbors]\nlist = [{places}]\n[log]\nlevel = "info,dim::shard=debug"\n')
            station.restart()
        for station in self.references:
            station.start_bridge()
        pairs = [(a, b) for a in self.stations for b in self.stations if a is not b]
        await asyncio.gather(*[self.linked(a, b) for a, b in pairs])

    async def named(self, station):
        path, deadline = os.path.join(station.root, 'station.id'), time.monotonic() + PATIENCE
        while not os.path.exists(path):
            assert time.monotonic() < deadline, log_of(station)
            await asyncio.sleep(0.1)
        with open(path) as f:
            return f.read().strip()

    async def linked(self, one, other):
        """until what is said to everybody goes from one to the other"""
        if one in self.references:
            return await until_it_spreads(one, other.did)
        deadline = time.monotonic() + PATIENCE
        while f'logged in user={other.did}' not in log_of(one):
            assert time.monotonic() < deadline, log_of(one)
            await asyncio.sleep(0.2)

    def finish(self):
        for station in self.stations:
            if station.root:
                station.finish()


WORLDS = {'two-of-ours': ('ours', 'ours', 'reference'), 'two-references': ('ours', 'reference', 'reference')}


@pytest_asyncio.fixture(scope='module', loop_scope='module', params=WORLDS.values(), ids=WORLDS)
async def ring(request):
    ring = Ring(request.param)
    try:
        await ring.start()
        yield ring
    finally:
        ring.finish()


async def people(ring, *names):
    """a user at each station; each station has the accounts of all"""
    users = await asyncio.gather(*[arrive(Account(name), s) for name, s in zip(names, ring.stations)])
    await meet(ring, users)
    return users


async def meet(ring, users):
    await asyncio.gather(*[knows(user, station, other.account)
                           for user, station in zip(users, ring.stations) for other in users])


async def write(sender, receiver, words):
    msg = sender.account.secret(receiver.account.id, text(words), visa=receiver.account.visa)
    await sender.send(msg)
    return msg


def is_about(signature):
    return lambda m, c: bool(c) and (c.get('origin') or {}).get('signature') == signature


async def everybody_writes(users, rounds=ROUNDS):
    """everybody to everybody; what was sent: (sender, receiver, message)"""
    sent = []
    for n in range(rounds):
        for a in users:
            for b in users:
                if a is not b:
                    words = f'{a.account.name} to {b.account.name}, {n}'
                    sent.append((a, b, await write(a, b, words), words))
    for a, b, msg, words in sent:
        _, said = await b.wait(lambda m, c: m.get('signature') == msg['signature'], timeout=PATIENCE)
        assert said['text'] == words
        await a.wait(is_about(msg['signature']), timeout=PATIENCE)
    return [(a, b, msg) for a, b, msg, _ in sent]


def receipts(client, msg):
    about = is_about(msg['signature'])
    return [c for m, c in client.inbox if m['sender'] == client.station and about(m, c)]


def check(ring, sent, users, down=False):
    """each once, by the straight way, and answered by where it was sent: while a link is down, perhaps
    that it is kept"""
    for a, b, msg in sent:
        (got,) = b.copies(msg['signature'])
        assert [t['did'] for t in got['traces']] == [a.station, b.station]
        told = [(c['text'], c.get('neighbor')) for c in receipts(a, msg)]
        references = [reference.did for reference in ring.references]
        if a.station in references:
            # It answers for a second copy as well, to a terminal without a name.
            told = [said for said in told if said != ('Message cached.', None)] or told[:1]
        # What references tell about their bridges is their own matter.
        if a.station not in references or b.station not in references:
            assert told in ([('Message redirected.', b.station)], [('Message cached.', None)] if down else None)
        for other in users:
            assert other is b or not other.copies(msg['signature'])


async def test_everybody_writes_to_everybody(ring):
    users = await people(ring, 'Alice', 'Bob', 'Carol')
    sent = await everybody_writes(users)
    # What still went round would arrive before what is sent after it.
    await everybody_writes(users, 1)
    check(ring, sent, users)
    for user in users:
        await user.close()


async def test_a_new_document_is_known_everywhere(ring):
    users = await people(ring, 'Dave', 'Erin', 'Frank')
    for user in users:
        account = user.account
        account.visa = account.make_visa(account.name + ' the Second', when=time.time() + 1)
        content = command('documents', did=account.id, ID=account.id, meta=account.meta,
                          documents=[account.visa])
        await user.send(account.plain(EVERYONE, content))
    for user in users:
        for other in users:
            if user is not other:
                await is_called(user, other.account)
    for user in users:
        await user.close()


async def is_called(user, account):
    deadline = time.monotonic() + PATIENCE
    while True:
        start = len(user.inbox)
        await user.ask(command('documents', did=account.id, ID=account.id))
        _, said = await user.wait(
            lambda m, c: c and (c.get('did') or c.get('ID')) == account.id and 'document' in c.get('command', ''),
            start=start)
        if any(account.name + ' the Second' in doc['data'] for doc in said.get('documents') or [said['document']]):
            return
        assert time.monotonic() < deadline, f'{account.name} is not known at {user.station}'


async def test_mail_waits_while_a_link_is_down_and_comes_once(ring):
    users = await people(ring, 'Grace', 'Heidi', 'Ivan')
    sent = await everybody_writes(users, 1)
    for bridge in [reference.bridge for reference in ring.references]:
        bridge.send_signal(signal.SIGKILL)
        bridge.wait(15)
    # What a reference has for another one needs its bridge; stations of ours dial by themselves.
    linked = [u for u, s in zip(users, ring.stations) if s in ring.ours or len(ring.references) == 1]
    check(ring, await everybody_writes(linked, 1), users, down=True)
    for reference in ring.references:
        reference.start_bridge()
    await asyncio.gather(*[until_it_spreads(r, s.did) for r in ring.references
                           for s in ring.stations if s is not r])
    sent += await everybody_writes(users, 2)
    check(ring, sent, users)
    for user in users:
        await user.close()


@pytest.mark.parametrize('place', [0, 2], ids=['ours', 'the-reference'])
async def test_mail_waits_while_a_station_is_down_and_comes_once(ring, place):
    users = await people(ring, 'Judy', 'Mallory', 'Niaj')
    stopped, away = ring.stations[place], users[place]
    here = [user for user in users if user is not away]
    before = await everybody_writes(users, 1)
    if stopped in ring.references:
        # Alone, its bridge would acknowledge what its station does not get.
        stopped.bridge.kill()
        stopped.bridge.wait(15)
    stopped.kill()
    written = [(user, away, await write(user, away, f'while you were away, {n}'))
               for user in here for n in range(ROUNDS)]
    for user, _, msg in written:
        await user.wait(is_about(msg['signature']), timeout=PATIENCE)
    # What a reference cannot deliver it may lose.
    ours = [station.did for station in ring.ours]
    waiting = [sent for sent in written if sent[0].station in ours]
    meanwhile = await everybody_writes(here, 1)
    stopped.start()
    if stopped in ring.references:
        stopped.start_bridge()
    back = await arrive(away.account, stopped)
    for _, _, msg in waiting:
        await back.wait(lambda m, c: m.get('signature') == msg['signature'], timeout=2 * PATIENCE)
    users[place] = back
    await asyncio.gather(*[linked_again(user, back) for user in here])
    after = await everybody_writes(users, 2)
    for user, _, msg in written:
        copies = len(back.copies(msg['signature']))
        assert copies == 1 or (copies == 0 and user.station not in ours)
    check(ring, meanwhile + after, users)
    for _, receiver, msg in before:
        # A reference does not always remember what it has delivered.
        if receiver is away and stopped in ring.ours:
            assert not back.copies(msg['signature']), 'it came before'
    for user in users:
        await user.close()


async def linked_again(user, back):
    """until what is written goes straight again"""
    deadline = time.monotonic() + 3 * PATIENCE
    while True:
        msg = await write(back, user, 'are you there?')
        try:
            await user.wait(lambda m, c: m.get('signature') == msg['signature'], timeout=5)
            msg = await write(user, back, 'I am')
            await back.wait(lambda m, c: m.get('signature') == msg['signature'], timeout=5)
            return
        except TimeoutError:
            await asyncio.gather(user.ping(), back.ping())
            assert time.monotonic() < deadline, 'the link does not mend'
