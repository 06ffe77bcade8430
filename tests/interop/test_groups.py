"""Groups of real clients and `dims chat`, on two stations, with `dims bot assistant`

    tests/interop/run test_groups.py
"""
import asyncio
import time

import pytest
from conftest import REFERENCE
from test_bots import Bot, dims        # noqa: F401  (a fixture)
from test_chat import Chat
from test_rings import Ring

pytestmark = [pytest.mark.skipif(REFERENCE, reason='needs a station of ours'), pytest.mark.agents,
              pytest.mark.timeout(600)]

WORLDS = {'two-of-ours': ('ours', 'ours'), 'with-the-reference': ('ours', 'reference')}


class World:
    """two stations that know each other; the first one has an assistant"""

    def __init__(self, dims, place, kinds):
        self.ring = Ring(kinds)
        self.here, self.there = self.ring.stations
        self.bot = Bot(dims, 'assistant', place, self.here.port)
        env = self.here.env
        self.here.env = lambda: {**env(), 'DIM_ANS': f'assistant={self.bot.user}'}
        asyncio.run(self.ring.start())

    def finish(self):
        self.bot.close()
        self.ring.finish()


@pytest.fixture(scope='module', params=WORLDS.values(), ids=WORLDS)
def world(dims, request, tmp_path_factory):                                  # noqa: F811
    world = World(dims, str(tmp_path_factory.mktemp('world')), request.param)
    yield world
    world.finish()


@pytest.fixture
def chat(tmp_path):
    made = []

    def go(name, station):
        made.append(Chat(station, str(tmp_path / ('chat-' + name)), name))
        return made[-1]
    yield go
    for one in made:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def people(world, agents, chat):
    """a real client and a chat at each station: Alice and Carl here, Bob and Dave there"""
    alice, bob = agents('Alice', connect=False), agents('Bob', connect=False)
    alice.connect(world.here)
    bob.connect(world.there)
    for agent in (alice, bob):
        agent.call('login_command')
    carl, dave = chat('Carl', world.here), chat('Dave', world.there)
    alice.meet(bob.user, carl.id, dave.id)
    bob.meet(alice.user, carl.id, dave.id)
    for one, other in ((carl, dave), (dave, carl)):
        for user in (alice.user, bob.user, other.id):
            one.say('/profile ' + user)
            one.wait('profile ' + user)
    return alice, bob, carl, dave


def in_group(group, text):
    return lambda e: e['content'].get('text') == text and e['content'].get('group') == group


def knows_members(agent, group, members, patience=40):
    deadline = time.monotonic() + patience
    while True:
        known = agent.call('members', group=group)['members']
        if known == members:
            return
        assert time.monotonic() < deadline, (agent.name, known, members, agent.errors())
        time.sleep(0.2)


def test_a_group_of_a_chat_with_the_assistant(world, people):
    alice, bob, carl, dave = people
    carl.say(f'/group new friends {alice.user} {dave.id}')
    group = carl.wait('group ').split(' ')[1]
    knows_members(alice, group, [carl.id, alice.user, dave.id])
    carl.say(f'/group assistant friends {world.bot.user}')
    carl.wait('passes on what is said')
    carl.say(f'/group invite friends {bob.user}')
    four = [carl.id, alice.user, dave.id, bob.user]
    carl.wait(f'group {group} friends {" ".join(four)}')
    dave.wait(f'group {group} friends {" ".join(four)}')
    for agent in (alice, bob):
        knows_members(agent, group, four)

    # One message to the bot, a copy of it to each of the others.
    carl.say('hello all', '/wait receipts')
    for agent in (alice, bob):
        assert agent.wait(in_group(group, 'hello all'), 40)['sender'] == carl.id
    dave.wait(f'message {group} {carl.id} hello all')
    dave.say('/group send friends hello from there')
    for agent in (alice, bob):
        assert agent.wait(in_group(group, 'hello from there'), 40)['sender'] == dave.id
    carl.wait(f'message {group} {dave.id} hello from there')
    # Clients of today send a message to each member themselves.
    for agent in (alice, bob):
        agent.call('say', group=group, text=f'{agent.name} says so')
        for one in (carl, dave):
            one.wait(f'message {group} {agent.user} {agent.name} says so')

    # Who is away has it afterwards.
    bob.call('disconnect')
    carl.say('while Bob was away')
    alice.wait(in_group(group, 'while Bob was away'), 40)
    bob.connect(world.there)
    bob.wait(in_group(group, 'while Bob was away'), 60)

    carl.say(f'/group expel friends {bob.user}')
    three = [carl.id, alice.user, dave.id]
    carl.wait(f'group {group} friends {" ".join(three)}')
    for agent in (alice, bob):
        knows_members(agent, group, three)
    carl.say('without Bob')
    alice.wait(in_group(group, 'without Bob'), 40)
    dave.wait('without Bob')
    alice.call('leave', group=group)
    carl.wait(f'group {group} friends {carl.id} {dave.id}')
    dave.wait(f'group {group} friends {carl.id} {dave.id}')
    carl.say('without Alice')
    dave.wait('without Alice')
    # What is said to each of them alone comes after it would have come.
    for agent in (alice, bob):
        carl.say(f'/to {agent.user}', 'this is for you')
        agent.text('this is for you', 40)
    assert (bob.count('without Bob'), bob.count('without Alice'), alice.count('without Alice')) == (0, 0, 0)
    assert [agent.count('hello all') for agent in (alice, bob)] == [1, 1]
    assert bob.count('while Bob was away') == 1


def test_a_group_of_a_real_client(world, people):
    alice, bob, carl, dave = people
    group = alice.call('create_group', members=[alice.user, bob.user, carl.id])['group']
    carl.wait('group ' + group)
    knows_members(bob, group, [alice.user, bob.user, carl.id])
    alice.call('say', group=group, text='hello')
    bob.wait(in_group(group, 'hello'), 40)
    carl.wait(f'message {group} {alice.user} hello')
    carl.say('/to ' + group, 'hello Alice')
    for agent in (alice, bob):
        agent.wait(in_group(group, 'hello Alice'), 40)

    # A member only proposes others.
    bob.call('invite', group=group, members=[dave.id])
    carl.wait('proposes Dave')
    alice.call('invite', group=group, members=[dave.id])
    four = [alice.user, bob.user, carl.id, dave.id]
    for one in (carl, dave):
        assert one.wait('group ' + group).split(' ')[-4:] == four
    knows_members(bob, group, four)
    dave.say(f'/to {group}', 'hello everybody')
    for agent in (alice, bob):
        agent.wait(in_group(group, 'hello everybody'), 40)
    carl.wait('hello everybody')

    # This one message it leaves to the bot, which cannot read it.
    alice.meet(world.bot.user)
    alice.call('tell_group', group=group, to=world.bot.user)
    alice.send(group, {'type': 1, 'text': 'by the bot', 'group': group})
    told = alice.wait(lambda e: e['content'].get('text') == 'Group message delivering.', 40)
    assert told['content']['replacements'] == {'count': '3', 'total': '3'}
    assert told['content']['group'] == group
    bob.wait(in_group(group, 'by the bot'), 40)
    for one in (carl, dave):
        one.wait(f'message {group} {alice.user} by the bot')

    alice.call('expel', group=group, members=[bob.user])
    three = [alice.user, carl.id, dave.id]
    for one in (carl, dave):
        assert one.wait('group ' + group).split(' ')[-3:] == three
    for agent in (alice, bob):
        knows_members(agent, group, three)
    dave.say(f'/group quit {group}')
    dave.wait('you have left')
    knows_members(alice, group, three[:2])
    assert carl.wait('group ' + group).split(' ')[-2:] == three[:2]
    carl.say('only you')
    alice.wait(in_group(group, 'only you'), 40)
    carl.say(f'/to {bob.user}', 'only Bob')
    bob.text('only Bob', 40)
    assert (bob.count('only you'), bob.count('by the bot')) == (0, 1)
