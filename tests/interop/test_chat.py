"""`dims chat` and real clients, through whatever station is under test"""
import os
import shlex
import shutil
import subprocess
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def program():
    """the client: named, or the one that is the station under test, or a build of this tree"""
    named = os.environ.get('DIM_CHAT_BIN')
    if named:
        return named
    command = shlex.split(os.environ.get('DIM_STATION_CMD', ''))
    if command and os.path.basename(command[0]) == 'dims':
        return command[0]
    target = os.environ.get('CARGO_TARGET_DIR', os.path.join(HERE, '..', '..', 'target'))
    builds = [os.path.join(target, kind, 'dims') for kind in ('release', 'debug')]
    return next((path for path in builds if os.path.exists(path)), None) or shutil.which('dims')


class Chat:
    """`dims chat` behind pipes: one event a line"""

    def __init__(self, station, folder, name, *flags):
        self.lines, self.at, self.cond = [], 0, threading.Condition()
        self.process = subprocess.Popen(
            [program(), 'chat', '--station', f'{station.host}:{station.port}', '--as', name,
             '--data-dir', folder, *flags], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        self.id = self.wait('account 0x').split(' ')[1]
        self.wait('login ')

    def _read(self):
        for line in self.process.stdout:
            with self.cond:
                self.lines.append(line.rstrip('\n'))
                self.cond.notify_all()

    def say(self, *lines):
        self.process.stdin.write(''.join(line + '\n' for line in lines))
        self.process.stdin.flush()

    def wait(self, part, timeout=40):
        """the next line with this part after the one waited for before"""
        deadline = time.monotonic() + timeout
        with self.cond:
            while True:
                while self.at < len(self.lines):
                    self.at += 1
                    if part in self.lines[self.at - 1]:
                        return self.lines[self.at - 1]
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f'nothing with {part!r} in {self.lines}')
                self.cond.wait(left)

    def end(self):
        self.process.stdin.close()
        return self.process.wait(60)


@pytest.fixture
def chat(tmp_path, station):
    if program() is None:
        pytest.skip('no dims was built')
    made = []

    def go(name, *flags):
        made.append(Chat(station, str(tmp_path / ('chat-' + name)), name, *flags))
        return made[-1]
    yield go
    for one in made:
        one.process.kill()
        one.process.wait()


@pytest.mark.agents
@pytest.mark.parametrize('flags', [(), ('--ws',)], ids=['mtp', 'websocket'])
def test_chat_and_a_real_client_talk_both_ways(agents, chat, flags):
    alice = agents('Alice')
    carl = chat('Carl', *flags)
    carl.say('/to ' + alice.user, 'hello from the chat')
    alice.text('hello from the chat')
    carl.wait('receipt 1 delivered')
    alice.send(carl.id, 'hello from the reference')
    assert carl.wait('message ') == f'message {alice.user} {alice.user} hello from the reference'
    carl.say('/profile ' + alice.user)
    assert '"name":"Alice"' in carl.wait('profile ')
    assert carl.end() == 0


@pytest.mark.agents
def test_a_file_goes_both_ways(agents, chat, tmp_path):
    alice, carl = agents('Alice'), chat('Carl')
    path = tmp_path / 'cat.bin'
    path.write_bytes(b'\x00\xffcat')
    carl.say('/to ' + alice.user, f'/file {path}')
    came = alice.wait(lambda e: e['content'].get('filename') == 'cat.bin')
    assert came['content']['data'] == 'AP9jYXQ='
    alice.send(carl.id, {'type': 16, 'filename': '../dog.bin', 'data': 'ZG9n'})
    saved = carl.wait('file ').rsplit(' ', 1)[1]
    assert os.path.basename(saved) == 'dog.bin' and 'downloads' in saved
    with open(saved, 'rb') as file:
        assert file.read() == b'dog'


@pytest.mark.agents
def test_a_real_client_becomes_member_of_a_group_and_speaks_in_it(agents, chat):
    alice, carl = agents('Alice'), chat('Carl')
    dave = chat('Dave')
    carl.say(f'/group new friends {alice.user} {dave.id}')
    group = carl.wait('group ').split(' ')[1]
    dave.wait(f'group {group}')
    reset = alice.wait(lambda e: e['content'].get('command') == 'reset')
    assert reset['content']['members'] == [carl.id, alice.user, dave.id]
    carl.say('welcome')
    got = alice.text('welcome')
    assert got['content']['group'] == group
    alice.meet(carl.id, dave.id)
    for one in (carl, dave):
        alice.send(one.id, {'type': 1, 'text': 'hello all', 'group': group})
        assert one.wait('message ' + group) is not None
