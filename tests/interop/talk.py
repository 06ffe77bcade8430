#!/usr/bin/env python3
"""Two real clients (dimples from PyPI) meet at a running station and say hello.

    target/interop-venv/bin/python tests/interop/talk.py [PORT]      (tests/interop/run makes that environment)

Prints what each of them receives. Ends with status 1 when one of them does not hear the other.
"""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault('DIM_HOST', '127.0.0.1')     # conftest: a station that runs already
from conftest import Agent                          # noqa: E402


class Where:
    host, port = '127.0.0.1', int(sys.argv[1]) if len(sys.argv) > 1 else 9394


def main():
    with tempfile.TemporaryDirectory() as folder:
        alice, bob = Agent(folder, 'Alice'), Agent(folder, 'Bob')
        try:
            for person in (alice, bob):
                print(f'{person.name} is {person.create()}')
                person.connect(Where)
            alice.meet(bob.user)
            bob.meet(alice.user)
            alice.send(bob.user, 'hello Bob')
            bob.text('hello Bob')
            bob.send(alice.user, 'hello Alice')
            alice.text('hello Alice')
            alice.wait(lambda e: e['content'].get('text') == 'Message delivered.')
        except TimeoutError as error:
            print(error)
            return 1
        finally:
            for person in (alice, bob):
                for event in list(person.events):
                    content = event.get('content', {})
                    said = [content[k] for k in ('command', 'title', 'text') if content.get(k)]
                    if said:
                        print(f'{person.name} receives: {" ".join(said)}')
                person.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
