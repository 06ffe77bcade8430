"""The bots of `dims bot` and real clients of the reference:

    tests/interop/run test_bots.py
"""
import os
import shlex
import signal
import subprocess
import time

import pytest
from conftest import HERE, Station

ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(ROOT, 'target')


@pytest.fixture(scope='session')
def dims():
    subprocess.run(['cargo', 'build', '--quiet', '--bin', 'dims'], cwd=ROOT, check=True)
    return os.path.join(ROOT, TARGET, 'debug', 'dims')


class Bot:
    """A bot in a process of its own; it makes its account before it looks for a station"""

    def __init__(self, dims, name, folder, port):
        self.p = subprocess.Popen(
            [dims, 'bot', name, '--data-dir', os.path.join(folder, name), '--station', f'127.0.0.1:{port}'],
            text=True, stdout=subprocess.PIPE, stderr=open(os.path.join(folder, name + '.log'), 'ab'))
        self.user = self.p.stdout.readline().split()[1]

    def close(self):
        self.p.send_signal(signal.SIGTERM)
        status = self.p.wait(30)
        self.p.stdout.close()
        return status


class StationWithBots(Station):
    names = ''

    def env(self):
        return {**super().env(), 'DIM_ANS': self.names}


@pytest.fixture
def world(dims, tmp_path):
    """A station that knows the bots, and the bots: (station, archivist, assistant)"""
    station = StationWithBots(cmd=f'{shlex.quote(dims)} run')
    bots = [Bot(dims, name, str(tmp_path), station.port) for name in ('archivist', 'assistant')]
    station.names = f'archivist={bots[0].user},assistant={bots[1].user}'
    station.start()
    yield station, *bots
    assert [bot.close() for bot in bots] == [0, 0]
    station.finish()


def search(agent, keywords, test, **fields):
    """Asks until the answer fits: what users say to everybody reaches the bot in its own time"""
    deadline = time.monotonic() + 40
    while True:
        start = len(agent.events)
        agent.send('archivist@anywhere', {'type': 136, 'command': 'search', 'keywords': keywords, **fields})
        answer = agent.wait(lambda e: e['content'].get('command') == 'search', 30, start)['content']
        if test(answer['users']) or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


@pytest.mark.agents
@pytest.mark.timeout(240, func_only=True)
def test_real_clients_find_each_other_through_the_archivist(world, agents):
    station, archivist, _ = world
    alice, bob = agents('Alice', 'Bob', at=station, meet=False)
    answer = search(alice, 'BOB', lambda users: bob.user in users)
    assert answer['users'] == [bob.user]
    assert answer['station'] == archivist.user
    assert answer['keywords'] == 'BOB'
    both = search(alice, '0x', lambda users: len(users) == 2)['users']
    assert sorted(both) == sorted([alice.user, bob.user])
    assert search(alice, '0x', lambda users: True, start=1, limit=1)['users'] == both[1:]
    here = {alice.user, bob.user}
    online = search(alice, 'users', lambda users: here <= set(users))['users']
    assert here <= set(online)
    assert search(bob, 'alice nobody', lambda users: not users)['users'] == []


@pytest.mark.agents
@pytest.mark.timeout(300, func_only=True)
def test_a_real_group_message_goes_through_the_assistant(world, agents):
    station, _, assistant = world
    alice, bob, carol = agents('Alice', 'Bob', 'Carol', at=station)
    alice.meet(assistant.user)
    group = alice.call('create_group', members=[alice.user, bob.user, carol.user])['group']
    alice.call('tell_group', group=group, to=assistant.user)
    # A client of today splits by itself; this one message it leaves to the bot.
    sent = alice.send(group, {'type': 1, 'text': 'hello group', 'group': group})
    told = alice.wait(lambda e: e['content'].get('text') == 'Group message delivering.', 40)
    assert told['sender'] == assistant.user
    assert told['content']['replacements'] == {'count': '2', 'total': '2'}
    assert told['content']['origin']['signature'] == sent['signature']
    for member in (bob, carol):
        said = member.text('hello group', 40)
        assert said['sender'] == alice.user
