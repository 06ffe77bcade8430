"""Two processes of drive.py, and the sum of what they saw: main.py ANSWER COUNT SEED"""
import collections
import json
import os
import subprocess
import sys

WORKERS = 2
program, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
drive = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'drive.py')
shares = [count // WORKERS + (worker < count % WORKERS) for worker in range(WORKERS)]
# Hashes of texts choose the order in which sets are walked, so they come from the seed, too.
environment = dict(os.environ, PYTHONHASHSEED='1')
running = [subprocess.Popen([sys.executable, '-B', drive, program, str(share), seed, str(worker)], text=True,
                            stdout=subprocess.PIPE, env=environment) for worker, share in enumerate(shares)]
tally, rules, whole = collections.Counter(), collections.Counter(), True
for process in running:
    printed, _ = process.communicate()
    whole = whole and process.returncode == 0
    for line in printed.splitlines():
        report = json.loads(line)
        tally.update({(family, verdict): number for family, verdict, number in report['tally']})
        rules.update(dict(report['rules']))

verdicts = ['both accept', 'both refuse', 'ruled', 'differs']
print('| family | ' + ' | '.join(verdicts) + ' |')
print('| --- |' + ' --- |' * len(verdicts))
for family in sorted({family for family, _ in tally}) + ['all']:
    numbers = [sum(number for (other, said), number in tally.items() if said == verdict and family in (other, 'all'))
               for verdict in verdicts]
    print('| %s | %s |' % (family, ' | '.join(map('{:,}'.format, numbers))))
print('\n| rule | cases |\n| --- | --- |')
for rule, number in rules.most_common():
    print('| %s | %s |' % (rule, '{:,}'.format(number)))
differs = sum(number for (_, verdict), number in tally.items() if verdict == 'differs')
print('\nseed %s, %s cases, %d differences without a rule' % (seed, '{:,}'.format(sum(tally.values())), differs))
sys.exit(0 if whole and differs == 0 and sum(tally.values()) == count else 1)
