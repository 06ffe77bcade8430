"""Differences on purpose: each rule looks at the case itself, not only at the words of an answer. README.md explains them."""
import base64
import json
import re
import string

from dimsdk import MessageShortener

import reference

SHORT = {'message': 'FRWTGDVMPK', 'content': 'TNWGC', 'key': 'ADI'}
DEPTH_MAX, INTEGERS = 64, range(-2**63, 2**64)


def of(question, mine, theirs):
    """Name of the rule that explains why two answers differ; none if nothing does."""
    found = STRICTER if 'accept' not in mine else LAXER if 'accept' not in theirs else OTHER
    case = Case(question, mine, theirs)
    for asked, words, name, holds in found:
        if question['ask'] in asked and re.search(words, str(mine.get('reject', ''))):
            try:
                if holds(case):
                    return name
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                continue
    return None


class Case:
    def __init__(self, question, mine, theirs):
        self.question, self.mine, self.theirs, self.ask = question, mine, theirs, question['ask']
        wire = base64.b64decode(question['wire']).decode('utf-8', 'replace') if 'wire' in question else None
        self.text = wire or next((question[name] for name in ('document', 'meta', 'content', 'map', 'key', 'input')
                                  if isinstance(question.get(name), str)), '')
        try:
            self.value = json.loads(self.text)
        except ValueError:
            self.value = None
        if self.ask == 'message' and isinstance(self.value, dict):
            self.raw = self.value
            self.value = dict(MessageShortener().extract_reliable_message(dict(self.value)))

    def part(self, name):
        return self.value.get(name)

    def texts(self):
        """Every text in the case that our parser reads as JSON: the case, and the data of documents in it."""
        yield self.text
        for one in (self.value, (self.value or {}).get('visa')):
            if isinstance(one, dict) and isinstance(one.get('data'), str):
                yield one['data']


def is_bad_json(text):
    """JSON that Python reads and RFC 8259 or our bounds do not allow, or that two readers may read as two things."""
    seen = []

    def pairs(found):
        if len({name for name, _ in found}) < len(found):
            seen.append('twice')
        return dict(found)

    def integer(digits):
        if int(digits) not in INTEGERS:
            seen.append('large')
        return 0

    def real(digits):
        if float(digits) in (float('inf'), float('-inf')):
            seen.append('infinite')
        return 0.0

    try:
        json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=seen.append)
    except ValueError:
        return False
    depth = most = 0
    for mark in re.sub(r'"(\\.|[^"\\])*"', '', text):
        depth += (mark in '[{') - (mark in ']}')
        most = max(most, depth)
    surrogate = any('\ud800' <= mark <= '\udfff' for mark in json.dumps(json.loads(text), ensure_ascii=False))
    return bool(seen) or most >= DEPTH_MAX or surrogate


def bad_json(case):
    return any(is_bad_json(text) for text in case.texts())


def ids(case):
    if case.ask == 'id':
        return [case.question['text']]
    found = [case.question.get('id')] + [case.part(name) for name in ('sender', 'receiver', 'group', 'did', 'ID')]
    visa = case.part('visa')
    if isinstance(visa, dict):
        found += [visa.get('did'), visa.get('ID')]
    return [one for one in found if isinstance(one, str)]


def doubled_mark(case):
    return any(one.count('@') > 1 or one.count('/') > 1 for one in ids(case))


def blank_or_control(case):
    return any(one != one.strip() or any(ord(mark) < 32 or 127 <= ord(mark) < 160 for mark in one) for one in ids(case))


def ownerless(text):
    """An address that no meta can make: wrong check sum, or letters beyond f."""
    address = text.split('/')[0].split('@')[-1]
    if len(address) == 42:
        return not re.fullmatch('0x[0-9a-fA-F]{40}', address)
    try:
        import base58
        return 26 <= len(address) <= 35 and (len(base58.b58decode(address)) != 25 or not is_checked(base58.b58decode(address)))
    except ValueError:
        return False


def is_checked(data):
    import hashlib
    return hashlib.sha256(hashlib.sha256(data[:21]).digest()).digest()[:4] == data[21:]


def is_loose_base64(text):
    body = ''.join(text.rsplit(',', 1)[-1].split())
    try:
        return base64.b64encode(base64.b64decode(body, validate=True)).decode() != body
    except ValueError:
        return True


def not_text_or_loose(value):
    return not isinstance(value, str) or is_loose_base64(value)


def short_and_long(kind):
    def holds(case):
        value = getattr(case, 'raw', case.value)
        long_names = {'T': 'type', 'N': 'sn', 'W': 'time', 'G': 'group', 'C': 'command', 'F': 'sender', 'R': 'receiver', 'D': 'data',
                      'V': 'signature', 'M': 'meta', 'P': 'visa', 'A': 'algorithm', 'I': 'iv'}
        which = case.question.get('kind', kind)
        if 'K' in value and which == 'message' and ('keys' in value or 'key' in value):
            return True
        return any(name in value and long_names.get(name) in value for name in SHORT[which])
    return holds


def loose_key(key):
    """PEM with marks outside base64, which Python skips, or with something round it."""
    text = key['data']
    if not isinstance(text, str):
        return True
    body = re.sub('-----[^-]*-----', '', text)
    return any(mark not in string.ascii_letters + string.digits + '+/=\r\n\t ' for mark in body) or is_loose_base64(body) \
        or not re.match(r'\s*-----BEGIN (RSA )?PUBLIC KEY-----\r?\n', text) or not re.search(r'\n-----END (RSA )?PUBLIC KEY-----\s*$', text)


def keys_of(case):
    """All key objects of the case: the key itself, that of a meta, those of attachments."""
    for one in (case.value, case.part('meta')):
        if isinstance(one, dict):
            if isinstance(one.get('key'), dict):
                yield one['key']
    if case.ask == 'key':
        yield case.value


def has_text_round(key):
    text = key['data']
    return not text.startswith('-----BEGIN') or not text.rstrip('\n').endswith('-----') or text.count('-----BEGIN') > 1


def meta_of(case):
    return case.part('meta') if case.ask == 'message' else case.value


def strange_version(meta):
    version = meta.get('type') if meta.get('type') is not None else meta.get('version')
    return isinstance(version, (bool, float, list, dict)) or isinstance(version, str) and \
        version not in ('1', '2', '4', 'MKM', 'mkm', 'BTC', 'btc', 'ETH', 'eth')


def bad_visa(case):
    """An attached visa that the packages cannot read; they raise, we leave it out."""
    visa = case.part('visa')
    if visa is None:
        return False
    if 'invalid address' in str(case.theirs.get('reject')) and (visa.get('did') or visa.get('ID')) != case.part('sender'):
        return True
    if not isinstance(visa.get('data'), str) or not_text_or_loose(visa.get('signature')) or not visa['data'].startswith('{'):
        return True
    try:
        json.loads(visa['data'])
        document = reference.parse_document(json.loads(json.dumps(visa)))
        document.signature  # noqa: B018  decoding may raise
        from dimax import Visa
        return not isinstance(document, Visa) or bad_json(case) or not isinstance(visa.get('type', ''), str)
    except Exception:
        return True


def bad_meta(case):
    """The packages take no notice of an attached meta that is none; we refuse the message, as for one of somebody else."""
    meta = case.part('meta')
    try:
        reference.parse_meta(json.loads(json.dumps(meta)))
        return False
    except Exception:
        return meta is not None


def entries(case):
    """What the message's key entries say, well-formed or not."""
    keys = case.part('keys')
    found = list(keys.values()) if isinstance(keys, dict) else [] if keys is None else [keys]
    return found + [case.value[name] for name in ('key',) if name in case.value]


def strange_time(case):
    time = json.loads(case.value['data'])['time']
    if isinstance(time, str):
        try:
            return not 0 <= float(time) < float('inf')
        except ValueError:
            return True
    return isinstance(time, (bool, list, dict)) or not 0 <= time < float('inf')


def stored_already(case):
    known = [(one['data'], one['signature']) for one in case.question['stored']]
    return (case.value['data'], ''.join(case.value['signature'].rsplit(',', 1)[-1].split())) in known and len(case.mine['accept']) == len(known)


def content_of(case):
    return case.theirs['accept'] if case.ask == 'receive' else case.theirs['accept']['content']


def is_command(content):
    return str(content.get('type', content.get('T'))) in ('136', 'command')


def only_differ(case, names):
    mine, theirs = case.mine['accept'], case.theirs['accept']
    if case.ask == 'message':
        mine, theirs = mine['content'], theirs['content']
    return all(mine.get(name) == theirs.get(name) for name in set(mine) | set(theirs) if name not in names)


ALL = ('meta', 'generate', 'document', 'receive', 'send', 'expand', 'key', 'decode', 'message')

# What we refuse and the packages take: (asked, our words, rule, what must hold of the case).
STRICTER = [
    (ALL, 'json|JSON|duplicate|nested|is there twice', 'json: one meaning, bounded', bad_json),
    (('message', 'receive', 'expand'), 'twice|wrong kind', 'short and long name of one field', lambda c: short_and_long('message' if c.ask == 'message' else 'content')(c)),
    (('id', 'document', 'message', 'meta'), "one '@'|not an ID|is no|unknown sender", 'id: one @, one /', doubled_mark),
    (('id', 'document', 'message', 'meta'), 'no blanks|not an ID|unknown sender', 'id: blanks, control characters', blank_or_control),
    (('id', 'document', 'message', 'meta'), 'address|not an ID', 'id: address without an owner', lambda c: any(map(ownerless, ids(c)))),
    (('decode',), 'base64', 'base64: foreign characters', lambda c: is_loose_base64(c.value)),
    (('decode',), 'hexadecimal', 'hex: blanks', lambda c: any(mark.isspace() for mark in c.value)),
    (('decode',), 'not an encoded text|base64', 'data uri: marks', lambda c: ',' in c.value),
    (('document',), 'data.time', 'document: time that is none', strange_time),
    (('document',), 'document.type', 'document: type that is no text', lambda c: not isinstance(c.value['type'], str)),
    (('document',), 'document.signature', 'list or loose base64 for bytes', lambda c: not_text_or_loose(c.value['signature'])),
    (('meta', 'generate', 'message'), 'meta.fingerprint', 'list or loose base64 for bytes', lambda c: not_text_or_loose(meta_of(c)['fingerprint'])),
    (('meta', 'generate', 'message'), 'meta.type', 'meta: number with blanks or no text', lambda c: strange_version(meta_of(c))),
    (('meta', 'message', 'key', 'generate'), 'unusable key', 'key: loose armor', lambda c: any(map(loose_key, keys_of(c)))),
    (('message',), 'field (data|signature|IV|key|keys) ', 'list or loose base64 for bytes', lambda c: any(
        name in c.value and not_text_or_loose(c.value[name]) for name in ('data', 'signature', 'IV', 'iv', 'key', 'keys'))),
    (('decode',), 'base58', 'base58: blanks', lambda c: c.value != c.value.strip()),
    (('message',), 'meta|another id|unusable key|signature does not match|algorithm', 'bad meta refuses the message', bad_meta),
    (('message',), 'no key to answer', 'bad visa is left out', bad_visa),
    (('message',), 'open: ', 'list or loose base64 for bytes', lambda c: any(map(not_text_or_loose, entries(c)))),
    (('message',), 'not its signature', 'list or loose base64 for bytes', lambda c: not_text_or_loose(c.value['data'])),
    (('message',), 'open: |content: not valid', 'list or loose base64 for bytes', lambda c: any(
        name in c.value and not_text_or_loose(c.value[name]) for name in ('IV', 'iv'))),
    (('receive',), 'command has no name', 'command: name that is empty or no text', lambda c: any(
        name in c.value and (not isinstance(c.value[name], str) or c.value[name] == '') for name in ('command', 'cmd', 'C'))),
    (('expand', 'message'), 'keys', 'K: null', lambda c: getattr(c, 'raw', c.value).get('K', 0) is None),
]

# What we take and the packages refuse.
LAXER = [
    (('message',), '', 'bad visa is left out', bad_visa),
    (('message',), '', 'a broken key entry is passed over', lambda c: any(map(not_text_or_loose, entries(c)))
        or 'RSA cipher text length' in c.theirs['reject']),
    (('message',), '', 'keys of a plain message are passed over', lambda c: ('key' in c.value or 'keys' in c.value)
        and 'broadcast message has no key' in c.theirs['reject']),
    (('message',), '', 'group that is none', lambda c: 'group error' in c.theirs['reject']),
    (('message',), '', 'content without sn', lambda c: c.mine['accept']['content'].get('sn') is None),
    (('receive',), '', 'content without sn', lambda c: c.value.get('sn', c.value.get('N')) is None),
    (('receive',), '', 'no command, though a field is called so', lambda c: not is_command(c.value)
        and ('command' in c.value or 'C' in c.value)),
    (('meta', 'message', 'key', 'generate'), '', 'key: text round the armor', lambda c: any(map(has_text_round, keys_of(c)))),
    (('receive',), '', 'null stands for absent', lambda c: c.value.get('ID', 0) is None),
    (('document', 'message'), '', 'null stands for absent', lambda c: any(
        isinstance(one, dict) and one.get('ID', 0) is None for one in (c.value, c.part('visa')))),
    (('document',), '', 'document: stored already', stored_already),
    (('receive',), '', 'command: attachment that is no object', lambda c: any(
        name in c.value and not isinstance(c.value[name], dict) for name in ('meta', 'document'))),
    (('decode',), '', 'data: labels of before 2.4', lambda c: c.question['kind'] == 'ted'
        and c.value.split(',')[0] in ('base64', 'base58', 'hex')),
    (('message',), '', 'sender with an RSA meta and no visa yet', lambda c: c.theirs['reject'] == 'Refused: verify'
        and not c.question['known'] and c.part('meta')['key']['algorithm'] == 'RSA'),
    (('message',), '', 'id: one key for one entity', lambda c: c.part('sender').startswith('@') or c.part('receiver').startswith('@')),
    (('decode',), '', 'data uri: two labels', lambda c: c.question['kind'] == 'ted' and c.value.count(',') > 1),
]

# What both take and see differently.
OTHER = [
    (('document',), '', 'document: stored already', stored_already),
    (('document',), '', 'document: a star for a type', lambda c: '*' in [c.value.get('type')] + [one['type'] for one in c.question['stored']]),
    (('document',), '', 'document: terminal that is no text', lambda c: not isinstance(c.value.get('terminal', ''), str)),
    (('id',), '', 'id: network byte makes no broadcast', lambda c: c.theirs['accept'] == dict(c.mine['accept'], broadcast=True)
        and c.mine['accept']['network'] >= 0x80 and c.mine['accept']['address'] not in ('anywhere', 'everywhere')),
    (('id',), '', 'id: one key for one entity', lambda c: dict(c.theirs['accept'], naked='') == dict(c.mine['accept'], naked='')
        and (c.mine['accept']['address'] in ('anywhere', 'everywhere') or c.mine['accept']['name'] == '')),
    (('decode',), '', 'data: labels of before 2.4', lambda c: c.question['kind'] == 'ted'
        and c.value.split(',')[0] in ('base64', 'base58', 'hex')),
    (('decode',), '', 'data uri: two labels', lambda c: c.question['kind'] == 'ted' and c.value.count(',') > 1),
    (('receive',), '', 'null stands for absent', lambda c: only_differ(c, ('ID', 'did'))
        and None in (c.value.get('ID', 0), c.value.get('did', 0))),
    (('send',), '', 'documents: each has both names', lambda c: only_differ(c, ('documents',))
        and without_old_name(c.mine['accept']['documents']) == without_old_name(c.theirs['accept']['documents'])),
    (('receive', 'message'), '', 'command: the whole list of documents', lambda c: is_command(content_of(c))
        and only_differ(c, ('document', 'documents')) and c.mine['accept'].get('content', c.mine['accept'])['documents']),
    (('receive', 'message'), '', 'no command, though a field is called so', lambda c: not is_command(content_of(c))
        and 'command' in content_of(c) and only_differ(c, ('did', 'ID', 'meta', 'command', 'document', 'documents'))),
    (('receive',), '', 'meta that is none is left as it is', lambda c: only_differ(c, ('meta',))
        and (bad_meta(c) or strange_version(c.value['meta']) or not_text_or_loose(c.value['meta']['fingerprint']))),
]


def without_old_name(documents):
    return [{name: value for name, value in one.items() if name != 'ID'} for one in documents]

