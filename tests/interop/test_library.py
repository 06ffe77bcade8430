"""The Rust client library and a real client of the reference, at one station:

    tests/interop/run test_library.py

The bot of examples/echo.rs logs in over MTP or WebSocket and says back what it is told; the real
client has never heard of it before. At the station under test, and at the reference.
"""
import os
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import HERE, REFERENCE, Station

# Tests are timed without their fixtures: the bot may have to be built first.
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(ROOT, 'target')


@pytest.fixture(scope='session')
def echo_program():
    subprocess.run(['cargo', 'build', '--quiet', '--no-default-features', '--example', 'echo'],
                   cwd=ROOT, check=True)
    return os.path.join(ROOT, TARGET, 'debug', 'examples', 'echo')


@pytest.fixture(scope='session')
def reference_station():
    if shutil.which('redis-server') is None:
        pytest.skip('needs redis-server')
    command = f'{sys.executable} {os.path.join(HERE, "reference_station.py")}'
    s = Station(cmd=command, cleanup=command + ' cleanup')
    s.start()
    yield s
    s.finish()


class Echo:
    """The bot in a process of its own; it ends when its input does"""

    def __init__(self, program, where, framing):
        words = (['ws'] if framing == 'ws' else []) + [where.host, str(where.port)]
        self.p = subprocess.Popen([program, *words], text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        watchdog = threading.Timer(60, self.p.kill)
        watchdog.start()
        self.user = self.p.stdout.readline().strip()
        watchdog.cancel()
        assert self.user, 'the bot did not log in'

    def close(self):
        self.p.stdin.close()
        status = self.p.wait(30)
        self.p.stdout.close()
        return status


@pytest.fixture(params=['mtp', 'ws'])
def echo_at(request, echo_program):
    made = []

    def go(where):
        made.append(Echo(echo_program, where, request.param))
        return made[-1]
    yield go
    for bot in made:
        if bot.p.poll() is None:
            bot.p.kill()
            bot.p.wait(10)


def talk(where, agents, bot):
    real = agents('Real', at=where)
    real.meet(bot.user)
    for text in ('hello', 'äöü 你好 🚀', 'x' * 20000):
        sent = real.send(bot.user, text)
        said = real.text(text, 30)
        assert said['sender'] == bot.user
        receipt = real.wait(lambda e: e['content'].get('text') == 'Message received.'
                            and e['content'].get('origin', {}).get('signature') == sent['signature'], 30)
        assert receipt['sender'] == bot.user
        assert receipt['content']['origin']['sn'] == sent['sn']
    assert real.count('hello') == 1
    assert bot.close() == 0


@pytest.mark.agents
@pytest.mark.timeout(180, func_only=True)
def test_the_bot_says_back_what_a_real_client_says(station, agents, echo_at):
    talk(station, agents, echo_at(station))


@pytest.mark.agents
@pytest.mark.timeout(180, func_only=True)
@pytest.mark.skipif(REFERENCE, reason='it is the station under test')
def test_the_bot_does_so_at_the_reference_station_too(reference_station, agents, echo_at):
    talk(reference_station, agents, echo_at(reference_station))


@pytest.mark.agents
@pytest.mark.restarts
@pytest.mark.timeout(240, func_only=True)
def test_bot_and_client_find_each_other_again_after_a_crash(fresh_station, agents, echo_at):
    bot = echo_at(fresh_station)
    real = agents('Real', at=fresh_station)
    real.meet(bot.user)
    real.send(bot.user, 'before')
    real.text('before', 30)
    fresh_station.restart()
    assert bot.p.stdout.readline().strip() == bot.user
    real.connect(fresh_station, ready=120)
    real.send(bot.user, 'after')
    real.text('after', 60)
    assert bot.close() == 0
