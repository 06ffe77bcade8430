"""Accounts as files: what `dims id` and the reference's tool make, each used by the other"""
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import SHARED, Station, free_port
from dimwire import Account, RawClient
from test_restart import leave_messages

DIMS = shlex.split(os.environ.get('DIM_STATION_CMD', ''))[:1]
pytestmark = pytest.mark.skipif(
    not DIMS or os.path.basename(DIMS[0]) != 'dims', reason='needs our own binary in DIM_STATION_CMD')

# Read by a process of its own, since the packages keep global state.
READER = r'''
import asyncio, json, os, sys
out = os.fdopen(os.dup(1), 'w')
sys.stdout = sys.stderr
from dimples.common.compat import LibraryLoader
LibraryLoader().run()
from dimples.utils import Config
from dimples.database import AccountDatabase
from dimples.common import MetaUtils
from dimsdk import ID, EncryptKey
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

def verified(key, data, signature):
    if key.algorithm == 'RSA':      # the reference's own check accepts anything
        try:
            pkcs1_15.new(RSA.import_key(key.get_str('data'))).verify(SHA256.new(data), signature)
            return True
        except ValueError:
            return False
    return key.verify(data=data, signature=signature)

async def main():
    config = Config()
    await config.load(path=sys.argv[1])
    db = AccountDatabase(config=config)
    for text in sys.argv[2:]:
        did = ID.parse(identifier=text)
        meta = await db.get_meta(identifier=did)
        assert MetaUtils.match_id(identifier=did, meta=meta), text
        docs = await db.get_documents(identifier=did)
        assert docs, text
        for doc in docs:
            data, signature = doc.get('data').encode(), doc.get('signature')
            from dimsdk import TransportableData
            raw = TransportableData.parse(signature).to_bytes()
            assert doc.verify(public_key=meta.public_key), text
            assert verified(meta.public_key, data, raw), text
            assert not verified(meta.public_key, data + b' ', raw), text
        info = {'id': text, 'type': did.type, 'name': docs[0].name, 'sealed': None}
        key = await db.private_key_for_visa_signature(user=did)
        if key is not None:
            assert verified(meta.public_key, b'x', key.sign(data=b'x')), text
            visa_key = docs[0].public_key
            assert isinstance(visa_key, EncryptKey), text
            sealed = visa_key.encrypt(b'secret')
            keys = await db.private_keys_for_decryption(user=did)
            info['sealed'] = keys[0].decrypt(sealed).decode()
        out.write(json.dumps(info) + '\n')
    out.flush()

asyncio.run(main())
'''


def config_of(root, **station):
    os.makedirs(root, exist_ok=True)
    path = os.path.join(root, 'config.ini')
    with open(path, 'w') as f:
        f.write(f'[database]\nroot = {root}\n[redis]\nenable = off\n[ans]\n')
        if station:
            f.write('[station]\n' + ''.join(f'{k} = {v}\n' for k, v in station.items()))
    return path


def clean_env():
    return {k: v for k, v in os.environ.items() if not k.startswith('DIM_')}


def dims(root, *line, stdin='', code=0):
    p = subprocess.run([*DIMS, *line], input=stdin, capture_output=True, text=True, timeout=60,
                       env=clean_env(), cwd=root)
    assert p.returncode == code, (line, p.stdout, p.stderr)
    return p.stdout


def generate(root, *line):
    out = dims(root, 'id', '--config', os.path.join(root, 'config.ini'), 'generate', *line)
    return re.search('^New ID: (.*)$', out, re.M).group(1)


def dimid(root, *line, stdin=''):
    """the reference's tool; its log goes to the same output and is taken out of it"""
    p = subprocess.run([sys.executable, '-m', 'dimples.register.run',
                        '--config=' + os.path.join(root, 'config.ini'), *line],
                       input=stdin, capture_output=True, text=True, timeout=60, cwd=root)
    assert p.returncode == 0, (p.stdout[-3000:], p.stderr[-3000:])
    out = re.sub('\x1b\\[[0-9;]*m', '', p.stdout)
    # A line of the log may begin where a question has just been answered.
    out = re.sub(r'\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] +(DEBUG|INFO|WARNING|ERROR) +\|[^\n]*\n', '\n', out)
    return out


def id_of(out):
    return re.search('^!!! ID: (.*)$', out, re.M).group(1)


def reads(root, ids):
    p = subprocess.run([sys.executable, '-c', READER, os.path.join(root, 'config.ini'), *ids],
                       capture_output=True, text=True, timeout=60, cwd=root)
    assert p.returncode == 0, p.stderr[-3000:]
    return [json.loads(line) for line in p.stdout.splitlines()]


def test_the_reference_reads_and_verifies_every_type(tmp_path):
    root = str(tmp_path)
    config_of(root)
    founder = generate(root, 'USER', '--name=Founder')
    wanted = {founder: (0, 'Founder')}
    for line, kind in ((['USER', '--meta=BTC'], 0), (['USER', '--seed=moki'], 0),
                       (['USER', '--message-key=1024'], 0), (['USER', '--message-key=4096'], 0),
                       (['STATION', '--seed=gsp-s001', '--port=9400'], 2),
                       (['STATION', '--key=rsa-1024'], 2), (['BOT', '--key=rsa-2048'], 4), (['ROBOT'], 4),
                       (['GROUP', '--founder', founder], 1), (['ISP', '--founder', founder], 3),
                       (['ICP', '--founder', founder], 5)):
        wanted[generate(root, *line, '--name', line[0])] = (kind, line[0])
    found = reads(root, wanted)
    assert {x['id']: (x['type'], x['name']) for x in found} == wanted
    assert [x['sealed'] for x in found] == ['secret'] * 9 + [None] * 3
    for x in wanted:
        dims(root, 'id', '--config=config.ini', 'modify', x, '--name', 'ü "new" name')
    assert {x['name'] for x in reads(root, wanted)} == {'ü "new" name'}


@pytest.mark.parametrize('answers', [
    ['0', '4', 'Alice', ''], ['0', '9', '2', '', 'http://example.com/a.png'], ['4', 'robot', '', ''],
    ['9', '-1', '2', 'gsp', 'Name', '10.0.0.1', '9400'], ['2', '', '', '', ''],
    ['1', 'club', 'FOUNDER', 'Our Club', ''], ['3', '', 'FOUNDER', '', ''], ['5', 'x', 'FOUNDER', '', 'FOUNDER'],
], ids=lambda a: '-'.join(a[:2]))
def test_the_same_answers_meet_the_same_questions(tmp_path, answers):
    root = str(tmp_path)
    config_of(root)
    founder = generate(root, 'USER')
    stdin = ''.join(a.replace('FOUNDER', founder) + '\n' for a in answers)
    theirs = dimid(root, 'generate', stdin=stdin)
    ours = dims(root, 'id', '--config=config.ini', 'generate', stdin=stdin)

    def told(out):
        # The log of the reference breaks the line after this question.
        out = out.replace(id_of(out), 'ID').replace('group founder: ', 'group founder: \n')
        return [x for x in out.splitlines() if x]
    assert told(ours) == told(theirs[theirs.index('Generating'):])

    # Each edits what the other has made.
    a, b = id_of(theirs), id_of(ours)
    changes = 'Second\n\n\n'
    ours = dims(root, 'id', '--config=config.ini', 'modify', a, stdin=changes)
    theirs = dimid(root, 'modify', b, stdin=changes)
    assert told(ours) == told(theirs[theirs.index('Modifying'):])
    for x in (a, b):
        dims(root, 'id', '--config=config.ini', 'show', x)
    assert [x['name'] for x in reads(root, [a, b])] == ['Second'] * 2


def wait_for(port, process):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(('127.0.0.1', port), 0.5).close()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)


class Running:
    def __init__(self, root, command, port):
        self.log = open(os.path.join(root, 'station.log'), 'ab')
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=clean_env(), cwd=root, start_new_session=True)
        self.host, self.port = '127.0.0.1', port
        wait_for(port, self.process)

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            os.kill(self.process.pid, sig)
            self.process.wait(20)
        self.log.close()


def reference(root, port):
    code = 'import sys; sys.argv = ["station", "--config=config.ini"]\n' \
           'from dimples.station import start; start.main()'
    return Running(root, [sys.executable, '-c', code], port)


def ours(root, port):
    return Running(root, [*DIMS, 'run', '--config=config.ini', '--host=127.0.0.1', f'--port={port}'], port)


async def test_the_reference_station_starts_on_an_account_of_ours(tmp_path):
    root, port = str(tmp_path), free_port()
    config_of(root)
    sid = generate(root, 'STATION', '--seed=gsp-s001', f'--port={port}')
    config_of(root, id=sid, host='127.0.0.1', port=port)
    station = reference(root, port)
    try:
        c = await RawClient('127.0.0.1', port, Account('A')).open()
        await c.handshake()
        assert c.station == sid
        await c.close()
    finally:
        station.stop(signal.SIGKILL)


async def test_our_station_starts_on_an_account_of_the_reference(tmp_path):
    root, port = str(tmp_path), free_port()
    config_of(root)
    sid = id_of(dimid(root, 'generate', stdin=f'2\ngsp\n\n\n{port}\n'))
    config_of(root, id=sid, host='127.0.0.1', port=port)
    station = ours(root, port)
    try:
        c = await RawClient('127.0.0.1', port, Account('A')).open()
        await c.handshake()
        assert c.station == sid
        await c.close()
    finally:
        station.stop()


@pytest.mark.agents
def test_reference_clients_use_accounts_of_ours(agents, station):
    kinds = {'Alice': ['USER'], 'Moki': ['USER', '--seed=moki'], 'Bob': ['USER', '--meta=BTC', '--message-key=4096'],
             'Bot': ['BOT', '--key=rsa-2048']}
    made = agents(*kinds, connect=False)
    for a in made:
        a.user = generate(a.root, *kinds[a.name], '--name', a.name)
        a.connect(station)
    for a in made:
        a.meet(*[b.user for b in made if b is not a])
    for a, b in zip(made, made[1:] + made[:1]):
        a.send(b.user, f'from {a.name}')
        b.text(f'from {a.name}')


@pytest.mark.agents
async def test_what_a_reference_station_has_kept_is_imported(tmp_path, agents):
    root, port = str(tmp_path / 'station'), free_port()
    config_of(root)
    sid = id_of(dimid(root, 'generate', stdin=f'2\ngsp\n\n\n{port}\n'))
    config_of(root, id=sid, host='127.0.0.1', port=port)
    station = reference(root, port)
    try:
        alice, bob = agents('Alice', 'Bob', at=station, meet=False)
        for a in (alice, bob):
            a.call('login_command')
            record = os.path.join(root, 'public', a.user, 'login_commands.js')
            deadline = time.monotonic() + 30
            while not os.path.exists(record):
                assert time.monotonic() < deadline
                time.sleep(0.2)
    finally:
        station.stop(signal.SIGKILL)
    out = dims(root, 'import', '--config=config.ini')
    assert re.search('^metas +3 new', out, re.M) and re.search('^documents +3 new', out, re.M), out
    assert re.search('^logins +2 new', out, re.M) and re.search('^damaged +0$', out, re.M), out
    shutil.rmtree(os.path.join(root, 'public', alice.user))     # only the store knows her now
    station = ours(root, port)
    try:
        carol = agents('Carol', at=station)
        carol.meet(alice.user, bob.user)
    finally:
        station.stop()

    # And back again: the reference goes on with what was exported.
    back = str(tmp_path / 'back')
    dims(root, 'export', back, '--config=config.ini')
    config_of(back, id=sid, host='127.0.0.1', port=port)
    reads(back, [alice.user, bob.user, sid])
    station = reference(back, port)
    try:
        dave = agents('Dave', at=station)
        dave.meet(alice.user)
    finally:
        station.stop(signal.SIGKILL)


@pytest.mark.skipif(shutil.which('redis-server') is None, reason='needs redis-server')
async def test_mail_that_a_reference_station_has_kept_is_delivered(tmp_path):
    script = f'{shlex.quote(sys.executable)} {shlex.quote(os.path.join(SHARED, "reference_station.py"))}'
    station = Station(cmd=script, cleanup=script + ' cleanup')
    station.start()
    try:
        away, sender = Account('Away'), Account('A')
        sent = await leave_messages(station, away, sender, 3)
        station.kill()
        root, port = station.root, free_port()
        with open(os.path.join(root, 'redis', 'port')) as f:
            redis = f'--redis=redis://127.0.0.1:{f.read()}'
        out = dims(root, 'import', '--config=config.ini', redis)
        assert re.search('^mail +3 new', out, re.M) and re.search('^damaged +0$', out, re.M), out
        out = dims(root, 'import', '--config=config.ini', redis)
        assert re.search('^mail +0 new, [3-6] known', out, re.M), out
        running = ours(root, port)
        try:
            c = await RawClient('127.0.0.1', port, away).open()
            await c.handshake()
            for s in sent:
                await c.wait(lambda m, _: m.get('signature') == s, 20)
            assert c.texts() == [f'kept {i}' for i in range(3)]
            await c.close()
        finally:
            running.stop()
    finally:
        station.finish()
