"""Cases from a seed: accounts, IDs, documents, contents and messages, as made and damaged."""
import asyncio
import base64
import copy
import json
import random

from Crypto.PublicKey import RSA
import ecdsa
import hashlib
import os

from dimsdk import Document, ID, Meta, MessageShortener, PrivateKey

import reference
from memory import Node
from reference import Clock

NETWORKS = [0, 1, 2, 3, 4, 5, 8, 0x10, 0x18, 0x30, 0x50, 0x76, 0x80, 0x88, 0xC8, 0xFF]
WORDS = ['moki', 'hulk', 'a', 'Group-1', 'Üñï', '名可名', 'x y', 'a.b_c-d', '😀', 'everyone', 'station']
BROADCAST = ['anyone@anywhere', 'everyone@everywhere', 'station@anywhere', 'stations@everywhere', 'archivist@anywhere']
LABELS = ['all', 'everyone', 'anyone', 'owner', 'founder', 'moky@anywhere', 'gsp@everywhere', 'x@everywhere', 'anywhere',
          '@anywhere', 'everywhere', 'Anyone@Anywhere', 'GSP@everywhere', 'archivist@ANYWHERE', 'moky@anywhere/tv', '', '/', '@']
dice = random


def b64(data):
    return base64.b64encode(data).decode()


def plain(thing):
    return json.loads(json.dumps(thing.to_map() if hasattr(thing, 'to_map') else thing))


# ---------------------------------------------------------------- damage

def flip(text):
    """One bit of base64 text, or one character of any other."""
    try:
        data = bytearray(base64.b64decode(text, validate=True))
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        return b64(bytes(data))
    except ValueError:
        return damaged_text(text)


def damaged_text(text):
    at = dice.randrange(len(text) + 1)
    mark = dice.choice(['@', '/', ' ', '\n', '\x00', 'é', '名', '0', 'O', 'l', '=', '-', '_', '\u00a0', '"', '\\', '\x7f', ':'])
    return dice.choice([
        lambda: text[:at] + mark + text[at:], lambda: text[:at] + text[at + 1:], lambda: text[:at],
        lambda: text[at:], lambda: text.upper(), lambda: text.lower(), lambda: text.swapcase(), lambda: text + text,
        lambda: text[:at] + text[at + 1:at + 2] + text[at:at + 1] + text[at + 2:], lambda: ' ' + text, lambda: text + ' ',
        lambda: text.rstrip('='), lambda: text + '=', lambda: 'data:;base64,' + text, lambda: text[:at] + '\r\n' + text[at:],
        lambda: text[:at] + mark + text[at + 1:]])()


def strange():
    return copy.deepcopy(dice.choice([
        None, True, False, 0, 1, 2, 4, -1, 3.5, 1.0, 136, 2**31, 2**63, 2**64, 10**30, 1e300, '', '0', '1', '4', '136', 'x', 'ETH',
        'null', ' ', [], {}, [1], {'a': 1}, ['x'], '2', 1e16, '1e3', 5, '名', [[]], {'algorithm': 'RSA'}, 'AAAA', 1700000000]))


def places(value, path=()):
    found = []
    if isinstance(value, dict):
        for name in value:
            found.append(path + (name,))
            found += places(value[name], path + (name,))
    elif isinstance(value, list):
        for at in range(len(value)):
            found.append(path + (at,))
            found += places(value[at], path + (at,))
    return found


def damage(value):
    """A damaged copy: a member removed, renamed, retyped, flipped, doubled, moved."""
    value = copy.deepcopy(value)
    found = places(value)
    if not found:
        return value
    path = dice.choice([one for one in found if len(one) == 1] if dice.random() < 0.6 else found)
    owner = value
    for step in path[:-1]:
        owner = owner[step]
    name = path[-1]
    old = owner[name]
    what = dice.randrange(9)
    if what == 0:
        del owner[name]
    elif what == 1 and isinstance(name, str):
        owner[dice.choice([name.upper(), name.capitalize(), name + 's', name[:1].upper(), 'x', name[:-1], ' ' + name])] = owner.pop(name)
    elif what == 2:
        owner[name] = strange()
    elif what in (3, 4) and isinstance(old, str):
        owner[name] = flip(old)
    elif what == 5 and isinstance(old, str):
        owner[name] = damaged_text(old)
    elif what == 5 or what == 6 and isinstance(old, (int, float)):
        owner[name] = str(old) if not isinstance(old, (dict, list)) else json.dumps(old)
    elif what == 6:
        owner[name] = [old]
    elif what == 7 and isinstance(owner, dict):
        other = dice.choice(list(owner))
        owner[name], owner[other] = owner[other], owner[name]
    elif isinstance(owner, dict):
        owner[dice.choice(['extra', 'T', 'N', 'D', 'K', 'ID', 'did', 'cmd', 'type', 'version', 'IV', 'key'])] = strange()
    return value


def written(value, damaged):
    """The text of a value; damaged texts may be no JSON, or no good one."""
    text = json.dumps(value, ensure_ascii=dice.random() < 0.5, separators=dice.choice([None, (',', ':')]))
    if not damaged or dice.random() < 0.85 or not isinstance(value, dict) or not value:
        return text
    name = dice.choice(list(value))
    return dice.choice([
        lambda: text[:-1] + ', %s: %s}' % (json.dumps(name), json.dumps(dice.choice([value[name], strange()]))),
        lambda: text[:-1] + ', "deep": ' + '[' * 70 + ']' * 70 + '}', lambda: text[:-1], lambda: text + ' ', lambda: text + '}',
        lambda: text[:-1] + ', "n": %s}' % dice.choice(['1e400', 'NaN', '-Infinity', '9' * 40, '-0', '0.1e-5', '01', '+1']),
        lambda: text[:-1] + ', "u": "%s"}' % dice.choice(['\\ud800', '\\u0000', '\x01', '\\x', '\u2028']),
        lambda: text.replace('"', "'"), lambda: '\ufeff' + text, lambda: text[:-1] + ',}', lambda: '[%s]' % text])()


# ---------------------------------------------------------------- accounts

def rsa_key(bits=1024):
    key = RSA.generate(bits, randfunc=os.urandom)
    more = {} if bits == 1024 else {'keySize': bits // 8}
    return PrivateKey.parse(dict({'algorithm': 'RSA', 'data': key.export_key('PEM', pkcs=1).decode()}, **more))


def ecc_key():
    key = ecdsa.SigningKey.generate(curve=ecdsa.SECP256k1, hashfunc=hashlib.sha256)
    return PrivateKey.parse({'algorithm': 'ECC', 'data': key.to_pem(format='pkcs8').decode(), 'curve': 'secp256k1'})


class Pool:
    """Key pairs and accounts that the cases of one process share."""

    def __init__(self):
        self.rsa = [rsa_key() for _ in range(5)] + [rsa_key(2048)]
        self.ecc = [ecc_key() for _ in range(6)]
        self.actors, self.wires = [], []
        for at, (version, network, key) in enumerate([
                ('4', 0, self.ecc[0]), ('1', 8, self.rsa[0]), ('2', 0, self.ecc[1]), ('1', 0, self.ecc[2]), ('1', 2, self.ecc[3]),
                ('1', 0x88, self.rsa[1]), ('1', 4, self.ecc[4]), ('2', 0, self.rsa[2])]):
            self.actors.append(self.account(version, network, key, 'actor-%d' % at, [None] if at != 3 else ['phone', 'tv']))
        group = self.account('1', 1, self.ecc[0], 'Group-x', [None], 'bulletin')
        self.group = dict(group, members=[one['id'] for one in self.actors[:4]], message_keys=[])
        Node.actors = {one['id']: one for one in self.actors + [self.group]}

    def account(self, version, network, key, seed, terminals, kind='visa'):
        meta = Meta.generate(version, key, seed=seed if version == '1' else None)
        owner, documents, opens = meta.generate_id(network), [], []
        for at, terminal in enumerate(terminals):
            opens.append(self.rsa[(len(self.actors) + at) % 5])
            document = Document.create(doc_type=kind)
            document.set_string('did', owner if terminal is None else owner.with_terminal(terminal))
            document.set_property('name', seed)
            if kind == 'visa':
                document.set_property('key', opens[-1].public_key.to_map())
            Clock.now += 1
            document.sign(key)
            documents.append(plain(document))
        if key.algorithm == 'RSA':
            opens.append(key)
        return {'id': str(owner), 'meta': plain(meta), 'documents': documents, 'id_key': plain(key),
                'message_keys': [plain(one) for one in opens]}

    # ------------------------------------------------------------ one case of each family

    def fresh(self):
        version = dice.choice(['1', '1', '2', '4'])
        key = dice.choice(self.ecc if version == '4' or dice.random() < 0.5 else self.rsa)
        meta = Meta.generate(version, key, seed=dice.choice(WORDS) + str(dice.randrange(1000)) if version == '1' else None)
        return key, plain(meta), meta

    def id_text(self):
        text = dice.choice([lambda: dice.choice(self.actors)['id'], lambda: str(self.fresh_id()), lambda: dice.choice(BROADCAST),
                            lambda: dice.choice(LABELS)])()
        if dice.random() < 0.3:
            text += '/' + dice.choice(['tv', 'phone', '', 'a b', '名', '*'])
        for _ in range(dice.choice([0, 1, 1, 2])):
            text = damaged_text(text)
        return text[:300]

    def fresh_id(self):
        digest = os.urandom(20)
        if dice.random() < 0.3:
            return '0x' + digest.hex()
        from dimax.mkm.address_btc import BTCAddress
        name = dice.choice(WORDS + [''])
        return (name + '@' if name else '') + str(BTCAddress.from_data(digest, dice.choice(NETWORKS)))

    def case_id(self):
        return {'ask': 'id', 'text': self.id_text()}

    def case_account(self):
        _, info, meta = self.fresh()
        network = dice.choice(NETWORKS)
        if dice.random() < 0.25:
            return {'ask': 'generate', 'meta': json.dumps(info), 'network': network}
        owner, damaged = str(meta.generate_id(network)), dice.random() < 0.7
        if dice.random() < 0.3:
            info['version'] = int(info['type']) if dice.random() < 0.5 else info['type']
            if dice.random() < 0.5:
                del info['type']
        if damaged and dice.random() < 0.2:
            owner = dice.choice([owner + '/tv', 'x' + owner, owner.split('@')[-1], owner.lower(), dice.choice(self.actors)['id']])
        elif damaged:
            for _ in range(dice.choice([1, 1, 1, 2])):
                info = damage(info)
        return {'ask': 'meta', 'meta': written(info, damaged), 'id': owner}

    def document(self, account, when, kind, **outer):
        data = {'type': kind, 'name': dice.choice(WORDS), 'time': when}
        if kind == 'visa':
            data['key'] = plain(dice.choice(self.rsa).public_key)
        if dice.random() < 0.2:
            data['time'] = dice.choice([int(when), str(when), None, 'soon', -1, [], True, 1e30])
        if dice.random() < 0.1:
            data = damage(data)
        if dice.random() < 0.1:
            data.pop('time', None)
        text = written(data, dice.random() < 0.1)
        key = PrivateKey.parse(dict(account['id_key']))
        return dict({'type': kind, 'did': account['id'], 'data': text, 'signature': b64(key.sign(text.encode('utf-8', 'replace')))}, **outer)

    def case_document(self):
        account = dice.choice(self.actors[:4] + [self.group])
        now, stored = 1760000000.0, []
        kinds = ['bulletin'] if account is self.group else ['visa', 'visa', 'visa', 'profile', 'note']
        for _ in range(dice.choice([0, 0, 1, 1, 2])):
            stored.append(self.good_document(account, now - dice.randrange(500), dice.choice(kinds)))
        outer = {'terminal': dice.choice(['tv', 'phone', '', '*'])} if dice.random() < 0.2 else {}
        document = self.document(account, now + dice.choice([0, -100, -600, 5, 1799, 1801, 1e6]), dice.choice(kinds), **outer)
        if dice.random() < 0.1 and stored:
            document = dict(dice.choice(stored))
        if dice.random() < 0.2:
            document['ID'] = document['did'] if dice.random() < 0.5 else document.pop('did')
        damaged = dice.random() < 0.5
        if damaged:
            document = damage(document)
        return {'ask': 'document', 'meta': account['meta'], 'id': account['id'], 'document': written(document, damaged),
                'stored': stored, 'now': now}

    def good_document(self, account, when, kind):
        data = json.dumps({'type': kind, 'name': dice.choice(WORDS), 'time': float(when)})
        key = PrivateKey.parse(dict(account['id_key']))
        outer = {'terminal': dice.choice(['tv', 'phone'])} if kind == 'visa' and dice.random() < 0.4 else {}
        return dict({'type': kind, 'did': account['id'], 'data': data, 'signature': b64(key.sign(data.encode()))}, **outer)

    def content(self):
        did, other, sn = dice.choice(self.actors)['id'], dice.choice(self.actors)['id'], dice.randrange(1, 2**31)
        account = dice.choice(self.actors)
        files = {'filename': 'a.png', dice.choice(['key', 'password']): {'algorithm': 'PLAIN'}, 'URL': 'https://x/y'}
        kind, more = dice.choice([
            (1, {'text': dice.choice(WORDS)}), (16, files), (18, files), (20, files), (22, files), (51, {'did': did, 'name': 'x'}),
            (55, {'text': 'x', 'origin': {'sender': did}}), (99, {'a': 1}), (202, {'contents': [{'type': '1', 'sn': 1, 'text': 'x'}]}),
            (204, {'app': 'a', 'mod': 'b', 'act': 'c'}), (40, {}), (64, {'currency': 'X', 'amount': 1.5}),
            (136, {'command': 'handshake', 'title': 'Hello world!', 'message': 'Hello world!'}),
            (136, {'command': 'handshake', 'title': 'DIM?', 'session': '00ff'}), (136, {'command': 'meta', 'did': did}),
            (136, {'command': 'meta', 'did': account['id'], 'meta': account['meta']}), (136, {'command': 'documents', 'did': did}),
            (136, {'command': 'documents', 'did': account['id'], 'documents': account['documents']}),
            (136, {'command': 'documents', 'did': account['id'], 'meta': account['meta'], 'documents': account['documents']}),
            (136, {'command': 'login', 'did': did, 'agent': 'x', 'station': {'did': other, 'host': 'h', 'port': 1}}),
            (136, {'command': 'login', 'did': did, 'station': {'host': 'h', 'port': 1}, 'provider': {'did': other}}),
            (136, {'command': 'report', 'title': 'online'}), (136, {'command': 'ans', 'names': 'a b'}), (136, {'command': 'mute'}),
            (136, {'command': 'block', 'list': [did]}), (136, {'command': 'unheard of', 'x': [1]}),
            (136, {'command': 'receipt', 'text': 'ok', 'origin': {'sender': did, 'receiver': other, 'time': 1.5, 'sn': 7, 'signature': 'x'}}),
            (137, {'command': 'invite', 'group': self.group['id'], 'members': [did]}), (137, {'command': 'quit', 'group': self.group['id']})])
        return json.loads(json.dumps(dict({'type': kind, 'sn': sn, 'time': Clock.now}, **more)))

    def case_content(self):
        content = self.content()
        if dice.random() < 0.15:
            return {'ask': 'send', 'content': json.dumps(content)}
        names = {1: 'text', 16: 'file', 18: 'image', 20: 'audio', 22: 'video', 51: 'card', 136: 'command', 137: 'history', 202: 'array'}
        if dice.random() < 0.3:
            content['type'] = dice.choice([str(content['type']), names.get(content['type'], 'text')])
        if dice.random() < 0.3 and 'command' in content:
            content['cmd'] = content['command'] if dice.random() < 0.5 else content.pop('command')
        if dice.random() < 0.3 and 'did' in content:
            content['ID'] = content['did'] if dice.random() < 0.5 else content.pop('did')
        if dice.random() < 0.2:
            content = dict(MessageShortener().compress_content(content))
        if content.get('command') == 'documents' and dice.random() < 0.3:
            content['command'] = 'document'
            content['document'] = (content.pop('documents', None) or [{}])[0]
        damaged = dice.random() < 0.5
        if damaged:
            content = damage(content)
        return {'ask': 'receive', 'content': written(content, damaged)}

    def case_detail(self):
        what = dice.randrange(5)
        if what == 0:
            kind = dice.choice(['message', 'content', 'key'])
            value = {'message': {'F': 's', 'R': 'r', 'W': 1, 'K': dice.choice(['k', {'r': 'k'}, 5, None]), 'D': 'd', 'V': 'v', 'T': 1,
                                 'G': 'g', 'M': {}, 'P': {}}, 'content': {'T': 1, 'N': 2, 'W': 3, 'G': 'g', 'C': 'c', 'text': 'x'},
                     'key': {'A': 'AES', 'D': 'd', 'I': 'i'}}[kind]
            value = {name: value[name] for name in value if dice.random() < 0.8}
            if dice.random() < 0.3:
                value[dice.choice(['sender', 'keys', 'key', 'type', 'sn', 'algorithm', 'data', 'X', 'S'])] = 'long'
            return {'ask': 'expand', 'kind': kind, 'map': json.dumps(value)}
        if what == 1:
            key = plain(dice.choice(self.ecc + self.rsa).public_key)
            if key['algorithm'] == 'ECC' and dice.random() < 0.5:
                point = ecdsa.VerifyingKey.from_pem(key['data']).to_string(dice.choice(['compressed', 'uncompressed'])).hex()
                key['data'] = dice.choice([point, point.upper()])
            if dice.random() < 0.2:
                key['compressed'] = dice.choice([1, 0, True, '1', 'yes', 'no', 'on', ''])
            return {'ask': 'key', 'key': json.dumps(damage(key) if dice.random() < 0.5 else key)}
        if what == 2:
            return {'ask': 'passphrase', 'text': dice.choice(WORDS) * dice.randrange(12)}
        kind, data = dice.choice(['ted', 'base64', 'base58', 'hex']), os.urandom(dice.randrange(1, 60))
        import base58
        text = {'hex': data.hex(), 'base58': base58.b58encode(data).decode()}.get(kind, b64(data))
        if kind == 'ted' and dice.random() < 0.4:
            text = dice.choice(['data:;base64,', 'data:image/png;base64,', 'data:image/png;name=a.png;base64,']) + text
        if dice.random() < 0.6:
            text = damaged_text(text)
        return {'ask': 'decode', 'kind': kind, 'input': json.dumps(text)}

    # ------------------------------------------------------------ messages

    def wire(self):
        """A message as a client of the reference writes it, of which many cases are then made."""
        Clock.now += 1
        sender, receiver = dice.choice(self.actors), dice.choice(self.actors[:4])
        outer, to, shape = {}, receiver['id'], dice.randrange(10)
        if shape == 0:
            to = dice.choice(BROADCAST)
        elif shape == 1:
            to, receiver = self.group['id'], dice.choice(self.actors[:4])
        elif shape == 2:
            outer['group'] = dice.choice(['everyone@everywhere', 'stations@everywhere'])
        elif shape == 3:
            outer.update(traces=[{'did': self.actors[4]['id'], 'time': 1.5}], recipients=[self.actors[4]['id']], SDT=Clock.now)
        if dice.random() < 0.4:
            outer.update(meta=copy.deepcopy(sender['meta']), visa=copy.deepcopy(dice.choice(sender['documents'])))
        content = self.content()
        if content['type'] in (136, 137) and 'group' in content:
            content.pop('group')
            content.update(type=136, command='report', title='x')
        node = Node.shared(client=True)
        text = asyncio.run(node.write(sender['id'], to, content, **outer))
        return json.loads(text), receiver['id'], shape

    def case_message(self):
        if len(self.wires) < 150 or dice.random() < 0.05:
            self.wires = (self.wires + [self.wire()])[-150:]
        message, reader, shape = dice.choice(self.wires)
        message = copy.deepcopy(message)
        if shape == 1:  # split by an assistant
            keys = message.get('keys', {})
            own = [name for name in keys if name.split('/')[0] == reader]
            message.update(receiver=reader, group=message['receiver'])
            if own and dice.random() < 0.5:
                message['keys'] = {name: keys[name] for name in own}
            elif len(own) == 1:
                message['key'] = message.pop('keys')[own[0]]
        elif dice.random() < 0.15 and len(message.get('keys', {})) == 1:
            message['key'] = list(message.pop('keys').values())[0]
        if dice.random() < 0.1 and 'keys' in message:
            message['keys']['digest'] = 'abcdEFGH'
        if dice.random() < 0.1:
            message['type'] = int(message['type']) if str(message.get('type', '')).isdigit() else 1
        if dice.random() < 0.15:
            message = dict(MessageShortener().compress_reliable_message(message))
        damaged = dice.random() < 0.6
        if damaged:
            for _ in range(dice.choice([1, 1, 1, 2])):
                message = damage(message)
        text = written(message, damaged)
        wire = text.encode('utf-8', 'surrogatepass')
        if damaged and dice.random() < 0.02:
            wire = wire.replace(b'"time"', b'"ti\xffme"')
        return {'ask': 'message', 'wire': b64(wire), 'known': dice.random() < 0.8, 'reader': reader}

    def case_made(self):
        kind = dice.choice(['MKM', 'BTC', 'ETH'])
        rsa = kind != 'ETH' and dice.random() < 0.4
        network = dice.choice([0, 2, 4, 8, 0x88, 0xC8]) if kind == 'MKM' else 0
        return {'ask': 'make', 'kind': kind, 'network': network, 'seed': dice.choice(WORDS), 'name': dice.choice(WORDS),
                'id_key': plain(dice.choice(self.rsa)) if rsa else None, 'message_key': plain(dice.choice(self.rsa)),
                'now': 1760000000.0, 'to': dice.choice(self.actors[:4])['id'], 'content': self.content()}

    def case(self):
        family = dice.choices(['id', 'account', 'document', 'content', 'detail', 'message', 'made'], [22, 16, 12, 20, 8, 20, 2])[0]
        return family, getattr(self, 'case_' + family)()
