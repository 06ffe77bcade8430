"""Asks both sides the same things and compares the answers: drive.py ANSWER COUNT SEED WORKER"""
import collections
import json
import subprocess
import sys

import reference

program, count, seed, worker = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
reference.seed('%s|%s' % (seed, worker))
reference.load()
import cases  # noqa: E402  after the seed
import made  # noqa: E402
import rules  # noqa: E402

SHOWN_MAX = 40  # differences printed in full


def canonical(question, value):
    if question['ask'] == 'document' and value is not None:
        value = sorted(value, key=json.dumps)  # of equal times either may stand first
    return json.dumps(value, sort_keys=True)


class Ours:
    def __init__(self):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8')

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + '\n')
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, 'our side ended'
        return json.loads(line)


def main():
    ours, pool = Ours(), cases.Pool()
    for account in pool.actors + [pool.group]:
        ours.ask({'ask': 'actor', 'account': account})
        answer = ours.answer()
        assert 'accept' in answer, answer
    tally, ruled, shown = collections.Counter(), collections.Counter(), 0
    for index in range(count):
        family, question = pool.case()
        ours.ask(question)
        if family == 'made':
            mine = ours.answer()
            theirs = made.judge(question, mine)
            mine = {'accept': 'made'} if 'accept' in mine else mine
        else:
            theirs = reference.judge(question)
            mine = ours.answer()
        same = canonical(question, mine.get('accept')) == canonical(question, theirs.get('accept')) and ('accept' in mine) == ('accept' in theirs)
        verdict = 'both accept' if 'accept' in theirs and 'accept' in mine else 'both refuse'
        if same:
            tally[family, verdict] += 1
            continue
        rule = rules.of(question, mine, theirs)
        if rule:
            ruled[rule] += 1
            tally[family, 'ruled'] += 1
            continue
        tally[family, 'differs'] += 1
        shown += 1
        if shown <= SHOWN_MAX:
            print(json.dumps({'worker': worker, 'index': index, 'family': family, 'ours': mine, 'theirs': theirs, 'case': question}),
                  file=sys.stderr, flush=True)
    print(json.dumps({'tally': [[*key, value] for key, value in tally.items()], 'rules': list(ruled.items())}))


main()
