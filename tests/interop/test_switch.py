"""Another user on a connection that somebody is logged in on"""
import asyncio

from dimwire import ANY_STATION, Account, command, text


def hello(account, session=None, attach=True):
    more = {} if session is None else {'session': session}
    content = command('handshake', title='Hello world!', message='Hello world!', **more)
    return account.plain(ANY_STATION, content, attach=attach)


async def test_a_proven_user_takes_over_the_connection(connect):
    """the first one is gone from it: mail for that one is kept, mail for the new one arrives"""
    for _ in range(4):      # whichever shards the two belong to
        first, second, sender = Account('First'), Account('Second'), await connect(Account('Sender'))
        c = await connect(first)
        c.account = second
        n = len(c.inbox)
        await c.send(hello(second))
        _, cmd = await c.command('handshake', start=n)
        assert cmd['title'] == 'DIM?' and cmd['session'] == c.session
        n = len(c.inbox)
        await c.send(hello(second, c.session))
        _, cmd = await c.command('handshake', start=n)
        assert cmd['title'] == 'DIM!'
        to_second = sender.account.secret(second.id, text('for the second'), visa=second.visa)
        to_first = sender.account.secret(first.id, text('for the first'), visa=first.visa)
        await sender.send(to_first)
        await sender.receipt(to_first['signature'], text='Message cached.')
        await sender.send(to_second)
        await c.wait(lambda m, _: m.get('signature') == to_second['signature'])
        assert not c.copies(to_first['signature'])
        again = await connect(first)
        await again.wait(lambda m, _: m.get('signature') == to_first['signature'])


async def test_who_proves_nothing_changes_nothing(connect):
    """a handshake in another's name, with the right key of the connection but a wrong signature"""
    mallory, victim = await connect(Account('Mallory')), Account('Victim')
    await connect(victim)
    forged = hello(mallory.account, mallory.session)
    forged['sender'], forged['meta'], forged['visa'] = victim.id, victim.meta, victim.visa
    n = len(mallory.inbox)
    await mallory.send(forged)
    _, said = await mallory.command('receipt', start=n)
    assert said['text'] == 'Message not accepted.'
    sender = await connect(Account('Sender'))
    for who, here in ((victim, False), (mallory.account, True)):
        msg = sender.account.secret(who.id, text('hello'), visa=who.visa)
        await sender.send(msg)
        await sender.receipt(msg['signature'], text='Message delivered.')
        await asyncio.sleep(0.3)
        assert bool(mallory.copies(msg['signature'])) == here
