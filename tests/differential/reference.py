"""What the published packages answer. Their RSA check is repaired first: as published it accepts anything."""
import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import os
import random
import time


class Clock:
    now = 1760000000.0


class Dice:
    """The only source of randomness: a seed gives the same keys and cases again."""

    def __init__(self, seed):
        self.seed, self.count = seed.encode(), 0

    def __call__(self, size):
        self.count += 1
        return hashlib.shake_256(b'%s|%d' % (self.seed, self.count)).digest(size)


def seed(text):
    os.urandom = Dice(text)
    random.seed(text)
    time.time = lambda: Clock.now


def load():
    """Imports the packages; only after `seed`, since they keep `os.urandom`."""
    from Crypto.Hash import SHA256
    from Crypto.Signature import pkcs1_15
    from dimap import RSAPublicKey, ECCPublicKey
    from dimples.common.compat import LibraryLoader
    LibraryLoader().run()
    logging.disable(logging.CRITICAL)

    def verify_rsa(self, data, signature):
        try:
            pkcs1_15.new(self.rsa_key).verify(SHA256.new(data), signature)
            return True
        except (ValueError, TypeError):
            return False

    RSAPublicKey.verify = verify_rsa
    plain = ECCPublicKey.verify

    @functools.lru_cache(maxsize=50_000)
    def remembered(key, data, signature):
        return plain(ECCPublicKey(json.loads(key)), data=data, signature=signature)

    # A check costs five milliseconds in pure Python, and mutations leave most signatures alone.
    def verify_ecc(self, data, signature):
        key = {name: self.get(name) for name in ('algorithm', 'data', 'compressed') if name in self}
        return remembered(json.dumps(key), data, signature)

    ECCPublicKey.verify = verify_ecc


class Refused(Exception):
    pass


def forget():
    """The packages remember every ID by its text, also those that they put together: a case must not see another's."""
    from dimax.mem import ext
    ext.shared_account_extensions.id_cache = ext.ThanosCache()


def judge(question):
    """`{"accept": value}` or `{"reject": why}`, as our side answers."""
    forget()
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            return {'accept': plain_json(ASKED[question['ask']](question))}
        except (Exception, AssertionError, RecursionError) as error:  # however it fails, it is not accepted
            return {'reject': '%s: %s' % (type(error).__name__, str(error)[:120])}


def plain_json(value):
    return json.loads(json.dumps(value, default=lambda one: one.to_map() if hasattr(one, 'to_map') else str(one)))


def need(value, why):
    if not value:
        raise Refused(why)
    return value


def ask_id(question):
    from dimsdk import ID
    found = need(ID.parse(question['text']), 'no id')
    return {'id': str(found), 'name': found.name, 'address': str(found.address), 'terminal': found.terminal,
            'network': found.address.network, 'type': found.type, 'user': found.is_user, 'group': found.is_group,
            'broadcast': found.is_broadcast, 'naked': str(found.without_terminal())}


def parse_meta(info):
    from dimples.common.compat import Compatible
    from dimsdk import Meta
    need(isinstance(info, dict), 'no object')
    Compatible.fix_meta_version(info)
    meta = need(Meta.parse(info), 'no meta')
    need(meta.is_valid, 'not valid')
    return meta


def ask_generate(question):
    return str(parse_meta(json.loads(question['meta'])).generate_id(question['network']))


def ask_meta(question):
    from dimples.common.mkm import MetaUtils
    from dimsdk import ID
    meta = parse_meta(json.loads(question['meta']))
    need(MetaUtils.match_id(need(ID.parse(question['id']), 'no id'), meta), 'another id')
    return dict(meta.to_map())


def parse_document(info):
    from dimples.common.compat import Compatible
    from dimsdk import Document
    need(isinstance(info, dict), 'no object')
    Compatible.fix_document_id(info)
    return need(Document.parse(info), 'no document')


def ask_document(question):
    from dimples.common.mkm import DocumentUtils
    from dimsdk import ID
    from memory import Node
    Clock.now = question['now']
    owner = ID.parse(question['id'])
    node = Node.empty()
    meta = parse_meta(dict(question['meta']))
    node.database.metas[str(owner)] = meta
    stored = [parse_document(dict(one)) for one in question['stored']]
    for one in stored:
        assert one.verify(meta.public_key)
    node.database.documents[str(owner)] = stored
    document = parse_document(json.loads(question['document']))
    about = DocumentUtils.get_document_id(document=document)
    need(about is not None and about.is_same_as(owner), 'about another')
    need(asyncio.run(node.facebook.barrack.save_document(document=document, identifier=owner)), 'not saved')
    kept = node.database.documents[str(owner)]
    return [[one.get('data'), DocumentUtils.get_document_type(one)] for one in kept]


def read_content(info):
    from dimples.common.compat import CompatibleCompressor, CompatibleIncoming
    from dimsdk import Content
    need(isinstance(info, dict), 'no object')
    info = CompatibleCompressor().shortener.extract_content(info)
    CompatibleIncoming.fix_content(content=info)
    shown = plain_json(info)  # some classes change the object that they are made from
    need(Content.parse(info), 'no content')
    return shown


def ask_receive(question):
    return read_content(json.loads(question['content']))


def ask_send(question):
    from dimples.common.compat import CompatibleOutgoing
    from dimsdk import Content
    content = need(Content.parse(json.loads(question['content'])), 'no content')
    CompatibleOutgoing.fix_content(content=content)
    return content.to_map()


def ask_expand(question):
    from dimples.common.compat import CompatibleCompressor
    shortener = CompatibleCompressor().shortener
    info = json.loads(question['map'])
    need(isinstance(info, dict), 'no object')
    return {'message': shortener.extract_reliable_message, 'content': shortener.extract_content,
            'key': shortener.extract_symmetric_key}[question['kind']](info)


def ask_key(question):
    from dimsdk import PublicKey
    info = json.loads(question['key'])
    need(isinstance(info, dict), 'no object')
    return need(PublicKey.parse(info), 'no key').data.to_bytes().hex()


def ask_decode(question):
    from dimsdk import Base58, Base64, Hex, TransportableData
    value = json.loads(question['input'])
    if question['kind'] == 'ted':
        ted = need(TransportableData.parse(value), 'no data')
        return need(ted.to_bytes(), 'no bytes').hex()
    need(isinstance(value, str), 'no text')
    decoded = {'base64': Base64, 'base58': Base58, 'hex': Hex}[question['kind']].decode(value)
    if decoded is None:
        raise Refused('no bytes')
    return decoded.hex()


def ask_passphrase(question):
    from dimples.common.protocol.password import Password
    key = Password.generate(question['text'])
    return [dict(key.to_map()), Password.digest(key)]


def ask_message(question):
    import base64
    from memory import Node
    Clock.now = 4e9  # no attached visa is from the future
    node = Node.shared(None if question['known'] else question['reader'])
    return asyncio.run(node.read(base64.b64decode(question['wire']), question['reader']))


ASKED = {'id': ask_id, 'generate': ask_generate, 'meta': ask_meta, 'document': ask_document, 'receive': ask_receive,
         'send': ask_send, 'expand': ask_expand, 'key': ask_key, 'decode': ask_decode, 'passphrase': ask_passphrase,
         'message': ask_message, 'actor': lambda question: None}
