"""A node of the reference whose database is a few dictionaries. Documents go through the table of the package."""
import base64
import hashlib
import json
import os

from aiou.mem import CachePool
from dimap import PlainKey
from dimples.client.packer import ClientMessagePacker
from dimples.common.facebook import CommonFacebook
from dimples.common.packer import CommonMessagePacker
from dimples.common.messenger import CommonMessenger
from dimples.common.archivist import CommonArchivist
from dimples.common.dbi import AccountDBI, MessageDBI
from dimples.common.protocol import BroadcastUtils
from dimples.database.t_base import DataCache
from dimples.database.t_document import DocumentTable
from dimsdk import Content, Envelope, ID, InstantMessage, PrivateKey, SymmetricKey

import reference


class Shelf:
    """In place of redis and of files: one list of documents."""

    def __init__(self, documents):
        self.documents = documents

    async def load_documents(self, identifier):
        return list(self.documents)

    async def save_documents(self, documents, identifier):
        self.documents = list(documents)
        return True


class Table(DocumentTable):
    def __init__(self, documents):
        DataCache.__init__(self, pool_name='documents')
        self._cache_pool = CachePool()  # not the shared one: cases must not know each other
        self._redis = self._dos = Shelf(documents)


def nothing(answer):
    async def method(self, *args, **kwargs):
        return answer
    return method


class Database(AccountDBI, MessageDBI):
    def __init__(self):
        self.metas, self.documents, self.members, self.private, self.ciphers, self.locals = {}, {}, {}, {}, {}, []

    async def get_meta(self, identifier):
        return self.metas.get(str(identifier.without_terminal()))

    async def save_meta(self, meta, identifier):
        self.metas[str(identifier.without_terminal())] = meta
        return True

    async def get_documents(self, identifier):
        return self.documents.get(str(identifier.without_terminal()), [])

    async def save_document(self, document, identifier):
        owner = identifier.without_terminal()
        table = Table(self.documents.get(str(owner), []))
        saved = await table.save_document(document=document, identifier=owner)
        self.documents[str(owner)] = table._redis.documents
        return saved

    async def get_local_users(self):
        return self.locals

    async def get_members(self, group):
        return self.members.get(str(group), [])

    async def private_keys_for_decryption(self, user):
        return self.private.get(str(user.without_terminal()), ([], None))[0]

    async def private_key_for_signature(self, user):
        return self.private.get(str(user.without_terminal()), ([], None))[1]

    private_key_for_visa_signature = private_key_for_signature

    async def get_cipher_key(self, sender, receiver, generate=False):
        if receiver.is_broadcast:
            return PlainKey.get_instance()
        found = self.ciphers.get((str(sender), str(receiver)))
        if found is None and generate:
            data = base64.b64encode(os.urandom(32)).decode()
            found = self.ciphers[(str(sender), str(receiver))] = SymmetricKey.parse({'algorithm': 'AES', 'data': data})
        return found

    async def cache_cipher_key(self, key, sender, receiver):
        self.ciphers[(str(sender), str(receiver))] = key


for base in AccountDBI, MessageDBI:
    for name in getattr(base, '__abstractmethods__', ()):
        if name in Database.__abstractmethods__:
            answer = [] if name.startswith('get_') and name.endswith(('s', 'histories')) else None
            setattr(Database, name, nothing(True if name.split('_')[0] in ('save', 'cache', 'clear') else answer))
Database.__abstractmethods__ = frozenset()


class Facebook(CommonFacebook):
    get_founder = get_owner = nothing(None)
    get_administrators = nothing([])
    save_administrators = save_members = nothing(True)

    async def get_members(self, identifier):
        if identifier.is_broadcast:
            return BroadcastUtils.broadcast_members(identifier)
        return await self.database.get_members(identifier)


Facebook.__abstractmethods__ = frozenset()


class Session:
    identifier = None


class Messenger(CommonMessenger):
    """Remembers the bytes that were checked and the text that came out."""
    signed = text = b''

    async def verify_data_signature(self, data, signature, msg):
        self.signed = data
        return await super().verify_data_signature(data=data, signature=signature, msg=msg)

    async def decrypt_content(self, data, password, msg):
        self.text = await super().decrypt_content(data=data, password=password, msg=msg)
        return self.text


class Node:
    actors = {}   # ID text -> account
    ready = {}    # (the one actor known, client?) -> node

    def __init__(self, client=False):
        self.database = Database()
        self.facebook = Facebook(database=self.database)
        self.facebook.barrack = CommonArchivist(facebook=self.facebook, database=self.database)
        self.messenger = Messenger(session=Session(), facebook=self.facebook, database=self.database)
        packer = ClientMessagePacker if client else CommonMessagePacker
        self.messenger.packer = packer(facebook=self.facebook, messenger=self.messenger)

    blank = None

    @classmethod
    def empty(cls):
        """The same node again, with nothing in it: making one costs more than a case."""
        cls.blank = cls.blank or cls()
        cls.blank.database.metas.clear()
        cls.blank.database.documents.clear()
        return cls.blank

    @classmethod
    def shared(cls, only=None, client=False):
        """A node that knows all actors, or only one; as fresh as at first."""
        node = cls.ready.get((only, client))
        if node is None:
            node = cls.ready[(only, client)] = cls(client)
            for account in cls.actors.values():
                if only in (None, account['id']):
                    node.learn(account)
            database = node.database
            node.first = dict(database.metas), dict(database.documents)
        metas, documents = node.first
        node.database.metas = dict(metas)
        node.database.documents = {owner: list(all) for owner, all in documents.items()}
        node.database.ciphers.clear()
        return node

    def learn(self, account):
        owner, database = account['id'], self.database
        meta = reference.parse_meta(json.loads(json.dumps(account['meta'])))
        database.metas[owner] = meta
        database.documents[owner] = [reference.parse_document(dict(one)) for one in account['documents']]
        for one in database.documents[owner]:
            assert one.verify(meta.public_key), account
        if account.get('members'):
            database.members[owner] = [ID.parse(member) for member in account['members']]
        if account['message_keys'] or account.get('id_key'):
            opens = [PrivateKey.parse(dict(key)) for key in account['message_keys']]
            database.private[owner] = opens, PrivateKey.parse(dict(account['id_key']))
            database.locals.append(ID.parse(owner))

    async def read(self, wire, reader):
        """Parsed, verified, opened for `reader`, passed through the filters."""
        message = reference.need(await self.messenger.deserialize_message(data=wire), 'parse')
        secure = reference.need(await self.messenger.verify_message(msg=message), 'verify')
        opened = await self.messenger.packer.secure_packer.decrypt_message(secure, receiver=ID.parse(reader))
        reference.need(opened, 'open')
        digest = [hashlib.sha256(part).hexdigest() for part in (self.messenger.signed, self.messenger.text)]
        return {'signed': digest[0], 'text': digest[1], 'content': reference.plain_json(opened.content.to_map())}

    async def write(self, sender, receiver, content, **outer):
        """What a client of the reference would put on the wire."""
        message = InstantMessage.create(head=Envelope.create(sender=ID.parse(sender), receiver=ID.parse(receiver)),
                                        body=Content.parse(content))
        for name, value in outer.items():
            message[name] = value
        secure = reference.need(await self.messenger.encrypt_message(msg=message), 'not sealed')
        signed = await self.messenger.sign_message(msg=secure)
        return (await self.messenger.serialize_message(msg=signed)).decode()
