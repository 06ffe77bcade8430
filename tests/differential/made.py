"""The other direction: what our side made is judged and read by the packages."""
import asyncio
import base64

from dimples.common.mkm import MetaUtils
from dimsdk import ID

import reference
from memory import Node


def judge(question, mine):
    if 'accept' not in mine:
        return {'reject': 'was not made'}
    try:
        return {'accept': check(question, mine['accept'])}
    except (Exception, AssertionError) as error:
        return {'reject': '%s: %s' % (type(error).__name__, error)}


def check(question, made):
    reference.Clock.now = question['now']
    owner = ID.parse(made['id'])
    meta = reference.parse_meta(dict(made['meta']))
    reference.need(MetaUtils.match_id(owner, meta), 'another id')
    for document in made['documents']:
        reference.need(reference.parse_document(dict(document)).verify(meta.public_key), 'document')
    node = Node.shared()
    read = asyncio.run(node.read(base64.b64decode(made['wire']), question['to']))
    sent = dict(question['content'])
    if sent.get('command') == 'receipt':
        sent['sn'] = sent['origin']['sn']  # what the send filter of the packages does, too
    for name in sent:
        # Names that the filters change on the way are covered by the contents' own cases.
        if name in ('type', 'sn', 'time', 'text', 'filename', 'URL', 'app', 'mod', 'act', 'title', 'session'):
            reference.need(read['content'].get(name) == sent[name], 'content ' + name)
    return 'made'
