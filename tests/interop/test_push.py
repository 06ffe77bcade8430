"""The announcer of `dims bot` between real clients of the reference and a push service made of hyper-h2:

    tests/interop/run test_push.py
"""
import json
import os
import queue
import shlex
import socket
import ssl
import subprocess
import threading

import h2.config
import h2.connection
import h2.events
import pytest
from test_bots import Bot, StationWithBots, dims  # noqa: F401


class Service:
    """APNs as far as one client needs it; hyper-h2 refuses whatever breaks HTTP/2's rules"""

    def __init__(self, folder):
        self.asked, self.faults = queue.Queue(), []
        chain, key = os.path.join(folder, 'ca.pem'), os.path.join(folder, 'ca.key')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
                        '-nodes', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
                        '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', chain],
                       check=True, capture_output=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(chain, key)
        self.tls.set_alpn_protocols(['h2'])
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'https://localhost:{self.listener.getsockname()[1]}'
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                stream = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.talk, args=(stream,), daemon=True).start()

    def talk(self, stream):
        try:
            with self.tls.wrap_socket(stream, server_side=True) as stream:
                self.speak(stream)
        except ConnectionError:
            pass
        except Exception as error:
            self.faults.append(error)

    def speak(self, stream):
        config = h2.config.H2Configuration(client_side=False, header_encoding='utf-8')
        peer, open_streams = h2.connection.H2Connection(config=config), {}
        peer.initiate_connection()
        stream.sendall(peer.data_to_send())
        while data := stream.recv(65536):
            for event in peer.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    open_streams[event.stream_id] = (dict(event.headers), bytearray())
                elif isinstance(event, h2.events.DataReceived):
                    open_streams[event.stream_id][1].extend(event.data)
                    peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    headers, body = open_streams.pop(event.stream_id)
                    # Long values, which are compressed, and a number that the table does not have.
                    peer.send_headers(event.stream_id, [(':status', '200'), ('apns-id', '8-4-4' * 20)])
                    peer.send_data(event.stream_id, b'', end_stream=True)
                    self.asked.put((headers, json.loads(body)))
            stream.sendall(peer.data_to_send())

    def close(self):
        self.listener.close()


@pytest.fixture
def world(dims, tmp_path):  # noqa: F811
    """A station that knows the announcer, the announcer, and its push service"""
    folder = tmp_path / 'announcer'
    folder.mkdir(mode=0o700)
    service = Service(str(folder))
    subprocess.run(['openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
                    '-out', str(folder / 'key.p8')], check=True, capture_output=True)
    (folder / 'announcer.toml').write_text(
        f'ca = "ca.pem"\n[apns]\nkey = "key.p8"\nkey_id = "K"\nteam_id = "T"\ntopic = "chat.dim.test"\n'
        f'url = "{service.url}"\nsandbox_url = "{service.url}"\n')
    station, bot = StationWithBots(cmd=f'{shlex.quote(dims)} run'), None
    try:
        bot = Bot(dims, 'announcer', str(tmp_path), station.port)
        station.names = f'announcer={bot.user}'
        station.start()
        yield station, bot, service
        assert bot.close() == 0
    finally:
        if bot:
            bot.p.kill()
        if station.root:
            station.finish()
        service.close()


@pytest.mark.agents
@pytest.mark.timeout(300, func_only=True)
def test_the_device_of_a_real_client_that_is_away_is_woken(world, agents):
    station, bot, service = world
    alice, bob = agents('Alice', 'Bob', at=station)
    bob.send('announcer@anywhere', {
        'type': 136, 'command': 'report', 'title': 'apns',
        'device': {'token': 'ab' * 32, 'platform': 'iOS', 'topic': 'chat.dim.tarsier', 'sandbox': False}})
    told = bob.wait(lambda e: e['content'].get('text') == 'Device token received.', 40)
    assert told['sender'] == bot.user
    bob.close()  # as a phone is: a client that is told to disconnect keeps its socket for a while
    for badge in (1, 2):
        alice.send(bob.user, f'hello {badge}')
        headers, body = service.asked.get(timeout=60)
        assert headers[':path'] == '/3/device/' + 'ab' * 32
        assert headers['apns-topic'] == 'chat.dim.tarsier'
        assert headers['authorization'].startswith('bearer ')
        assert body['aps']['alert'] == {
            'title': 'Text Message', 'body': 'Dear Bob: Alice sent you a text message.'}
        assert body['aps']['badge'] == badge
    assert service.faults == []
