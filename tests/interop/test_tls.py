"""The same over TLS, spoken by Python's own ssl module: the reference's clients have none."""
import asyncio
import os
import shlex
import shutil
import ssl
import subprocess

import aiohttp
import pytest
from conftest import make_station
from dimwire import Account, RawClient, text
from test_websocket import WS


class TlsClient(RawClient):
    """A raw client whose bytes are encrypted"""

    def __init__(self, context, *args, **options):
        super().__init__(*args, **options)
        self.context = context

    async def open(self, limit=None):
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, ssl=self.context, server_hostname='localhost')
        self.task = asyncio.create_task(self._read())
        return self


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    if not shutil.which('openssl'):
        pytest.skip('openssl makes the certificate')
    folder = tmp_path_factory.mktemp('tls')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
                    '-keyout', folder / 'key.pem', '-out', folder / 'chain.pem', '-subj', '/CN=localhost',
                    '-addext', 'subjectAltName=DNS:localhost'], check=True, capture_output=True)
    return folder


@pytest.fixture(scope='module')
def secure(folder):
    """a station with a certificate"""
    s = make_station()
    if not s.controllable or os.path.basename(shlex.split(s.cmd)[0]) != 'dims':
        pytest.skip('needs DIM_STATION_CMD with dims')
    for key, file in (('certificate', 'chain.pem'), ('key', 'key.pem')):
        s.cmd += f' --set {shlex.quote(f"tls.{key}={folder / file}")}'
    s.start()
    yield s
    s.finish()


@pytest.fixture
def context(folder):
    return ssl.create_default_context(cafile=folder / 'chain.pem')


async def talk(alice, bob, to_alice, to_bob):
    """a text each way, and the receipts for it"""
    for one, other, to, words in ((alice, bob, to_bob, 'hello'), (bob, alice, to_alice, 'hello to you')):
        msg = one.account.secret(to.id, text(words), visa=to.visa, attach=True)
        await one.send(msg)
        await other.wait(lambda m, x: x and x.get('text') == words)
        await one.wait(lambda m, x: x and x.get('text') == 'Message delivered.'
                       and x['origin']['signature'] == msg['signature'])


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
async def test_one_with_and_one_without_tls(secure, context, connect, version):
    context.minimum_version = context.maximum_version = version
    alice = TlsClient(context, secure.host, secure.port, Account('Alice'))
    await alice.open()
    await alice.handshake()
    assert alice.writer.get_extra_info('ssl_object').version() == f'TLSv1.{version - ssl.TLSVersion.TLSv1}'
    bob = await connect(Account('Bob'), at=secure)
    await talk(alice, bob, alice.account, bob.account)
    await alice.close()


async def test_wss(secure, context):
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(f'wss://localhost:{secure.port}/', ssl=context, max_msg_size=0)
        c = WS(ws, Account('Web'))
        await c.handshake()
        await c.ws.send_str('PING')
        await c.wait(lambda m, x: m.get('raw') == b'PONG')
        await ws.close()


async def test_an_unknown_certificate(secure):
    with pytest.raises(ssl.SSLCertVerificationError):
        await TlsClient(ssl.create_default_context(), secure.host, secure.port).open()
