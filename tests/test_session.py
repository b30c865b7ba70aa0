"Sessions that are killed, shared, taken back to the beginning, and carried from file to file: nothing that was confirmed is lost, nothing is there twice."
import json, os, random, signal, sqlite3, subprocess, sys, threading, time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from conftest import FORK
from fgnb.agreement import agreement, cohen_kappa, coefficient, conflicts, krippendorff_alpha
from fgnb.codec import pack, unpack
from fgnb.core import FaultError, own_path
from fgnb.data import read_examples
from fgnb.eventlog import Log, begun, derive
from fgnb.format import Call
from fgnb.session import Session, Suggestion
from fgnb.testing import LAMP, lamps

env = {**os.environ, 'PYTHONPATH': own_path()}
lamp = lambda room='hall', on=True: {'name': 'set_light', 'arguments': {'room': room, 'on': on}}


def fresh(path: Path, *commands, who: str = 'ann', **more) -> Session:
    return Session.create(path, [LAMP], commands or ['a', 'b', 'c', 'd'], who=who, **more)


def said(session: Session) -> list:
    "Everything a person sees."
    return [(i.id, i.command, i.status, i.label, i.labels, i.settled, i.conflict, i.flagged, i.comments, i.suggestions) for i in session.items()]


# --- killed -----------------------------------------------------------------------------------------------------------

def life(path: str, who: str, out: str) -> None:
    "One life of somebody who labels, and says every label that is written."
    with open(out, 'a') as f: os.dup2(f.fileno(), 1)
    session = Session.open(path, who=who)
    while item := session.take():
        session.label(item.id, lamp(item.command))
        os.write(1, f'{item.id}\n'.encode())


def test_a_thousand_labels_and_kill_9(tmp_path):
    "Two processes label a thousand items and are killed again and again; what either said it had written is there, once."
    n, kills, draw, path = 1000, 0, random.Random(11), tmp_path/'a.session'
    fresh(path, *(f'light {i}' for i in range(n))).close()

    def start(who):
        process = FORK.Process(target=life, args=(str(path), who, str(tmp_path/f'{who}.said')))
        process.start()
        return process

    warm = FORK.Process(target=int)
    warm.start(); warm.join()
    alive, watch = {who: start(who) for who in ('ann', 'ben')}, Session.open(path, who='eva')
    while alive:
        who, reached = draw.choice(sorted(alive)), watch.last()+draw.randint(5, 60)
        while watch.last() < reached and alive[who].is_alive(): time.sleep(.005+draw.random()*.02)
        if kills < 20 and alive[who].is_alive():
            os.kill(alive[who].pid, signal.SIGKILL)
            kills += 1
        alive[who].join(120)
        if (code := alive[who].exitcode) == 0: del alive[who]
        else:
            assert code == -signal.SIGKILL
            alive[who] = start(who)
    confirmed = Counter(line for who in ('ann', 'ben') for line in (tmp_path/f'{who}.said').read_text().split('\n')[:-1])
    session = Session.open(path, who='eva')
    items, events = session.items(), session.history()
    labelled = Counter(e.id for e in events if e.what in ('label', 'change'))
    assert kills >= 8 and session.check() == [] and [e.n for e in events] == list(range(1, len(events)+1))
    assert len(items) == n and all(i.label and i.label.calls == [Call('set_light', {'room': i.command, 'on': True})] for i in items)
    assert set(labelled.values()) == {1} and len(labelled) == n, 'doubled'
    assert set(confirmed.values()) == {1} and set(confirmed) <= set(labelled), 'lost'
    assert n-len(confirmed) <= kills, 'only a label whose maker was killed before saying so may be unconfirmed'
    assert {w for i in items for w in i.labels} == {'ann', 'ben'}
    assert len(read_examples(session.export(tmp_path/'out.jsonl'), [LAMP])) == n


def test_killed_while_making(tmp_path):
    "A file whose maker was killed at any point is no session or a whole one, and the next one makes or opens it."
    code = "import sys\nfrom fgnb.session import Session\nfrom fgnb.testing import LAMP\nprint('go', flush=True)\nSession.create(sys.argv[1], [LAMP], [f'c{i}' for i in range(300)], who='ann')"
    draw = random.Random(5)
    for i in range(4):
        path = tmp_path/f'{i}.session'
        child = subprocess.Popen([sys.executable, '-c', code, str(path)], stdout=subprocess.PIPE, text=True, env=env)
        child.stdout.readline()
        time.sleep(draw.random()*.06)
        child.kill(); child.communicate()
        session = Session.resume(path, [LAMP], [f'c{i}' for i in range(300)], who='ben')
        assert session.progress().total == 300 and session.check() == []
        session.close()
    for name, data in (('empty', b''),):
        (tmp_path/name).write_bytes(data)
        assert not begun(tmp_path/name) and Session.resume(tmp_path/name, [LAMP], ['a']).progress().total == 1


def test_two_make_one(tmp_path):
    "Two processes that begin the same session at once end up in one."
    code = "import sys\nfrom fgnb.session import Session\nfrom fgnb.testing import LAMP\ns = Session.resume(sys.argv[1], [LAMP], ['a', 'b'], who=sys.argv[2])\nitem = s.next()\nif item: s.label(item.id, [], 'no')\nprint(s.progress().total)"
    children = [subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'a.session'), who], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for who in ('ann', 'ben', 'eva')]
    outs = [c.communicate(timeout=60) for c in children]
    assert [c.returncode for c in children] == [0, 0, 0], outs
    session = Session.open(tmp_path/'a.session')
    assert session.progress().total == 2 and session.check() == [] and 2 <= sum(len(ls) for ls in session.labels().values()) <= 3


def test_a_new_file_in_other_hands_is_waited_for(tmp_path):
    "Another process is at the same point: SQLite refuses the switch to a write-ahead log at once, whatever time-out it was given."
    path = tmp_path/'a.session'
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute('BEGIN IMMEDIATE')
    with pytest.raises(sqlite3.OperationalError, match='locked'): sqlite3.connect(path, timeout=30).execute('PRAGMA journal_mode=WAL')
    timer = threading.Timer(.3, other.rollback); timer.start()
    began = time.monotonic()
    assert Session.resume(path, [LAMP], ['a', 'b']).progress().total == 2 and time.monotonic() - began > .2
    timer.join()


# --- back to the beginning --------------------------------------------------------------------------------------------

class Labelling(RuleBasedStateMachine):
    "Two people do anything in any order; whatever they see follows from the log, and each can take back all they did."
    folder: Path
    count = 0

    @initialize()
    def begin(self):
        Labelling.count += 1
        self.ann = fresh(self.folder/f'{Labelling.count}.session', 'a', 'b', 'c')
        self.ben = Session.open(self.ann.path, 'ben')
        self.ids = [i.id for i in self.ann.items()]
        self.trail = {'ann': [], 'ben': []} # what each saw of their own steps before each step

    def own(self, s): return sorted((i.id, str(i.labels.get(s.who)), [c.text for c in i.comments if c.who == s.who]) for i in s.items())
    def of(self, who): return self.ann if who == 'ann' else self.ben

    people = st.sampled_from(['ann', 'ben'])
    where = st.integers(0, 2)

    def does(self, who, act):
        s = self.of(who)
        before, last = self.own(s), s.last()
        act(s)
        if s.last() > last: self.trail[who].append(before)

    @rule(who=people, at=where, on=st.booleans(), room=st.sampled_from(['hall', '客厅']))
    def label(self, who, at, on, room): self.does(who, lambda s: s.label(self.ids[at], lamp(room, on)))
    @rule(who=people, at=where)
    def reply(self, who, at): self.does(who, lambda s: s.label(self.ids[at], [], '哪个？'))
    @rule(who=people, at=where)
    def skip(self, who, at): self.does(who, lambda s: s.skip(self.ids[at]))
    @rule(who=people, at=where, on=st.booleans())
    def flag(self, who, at, on): self.does(who, lambda s: s.flag(self.ids[at], on))
    @rule(who=people, at=where)
    def comment(self, who, at): self.does(who, lambda s: s.comment(self.ids[at], '灯'))
    @rule(who=people, at=where)
    def resolve(self, who, at): self.does(who, lambda s: s.resolve(self.ids[at], lamp('stairs')))
    @rule(order=st.permutations([0, 1, 2]), k=st.integers(0, 3))
    def order(self, order, k): self.ann.order([self.ids[i] for i in order[:k]])
    @rule(at=where)
    def suggest(self, at): self.ben.suggest(self.ids[at], [Suggestion([Call('set_light', {'room': 'hall', 'on': True})], '', .5, 'run x')])

    @rule(who=people)
    def undo(self, who):
        s, event = self.of(who), self.of(who).undo()
        assert (event is None) == (not self.trail[who])
        if event: assert self.own(s) == self.trail[who].pop()

    @rule(who=people)
    def undo_and_redo(self, who):
        s, before = self.of(who), said(self.of(who))
        if s.undo(): assert s.redo() and said(s) == before

    @rule()
    def rebuild(self):
        before = said(self.ann)
        self.ann.rebuild()
        assert said(self.ann) == before

    @rule(who=people)
    def all_back_and_again(self, who):
        s, before, steps = self.of(who), said(self.of(who)), 0
        while s.undo(): steps += 1
        assert steps == len(self.trail[who]) and all(who not in i.labels and not any(c.who == who for c in i.comments) for i in s.items())
        for _ in range(steps): assert s.redo()
        assert said(s) == before

    @invariant()
    def follows_from_the_log(self):
        if not hasattr(self, 'ann'): return
        assert self.ann.check() == []
        seen = {i.id: i for i in self.ben.items()}
        following = self.ben.next()
        assert (following is None) == all(i.status == 'labelled' for i in seen.values())
        assert self.ann.progress().conflicts == len(self.ann.conflicts()) == sum(i.conflict for i in seen.values())

    def teardown(self):
        if not hasattr(self, 'ann'): return
        for s in (self.ann, self.ben):
            while s.undo(): pass
        assert all((i.status, i.label, i.flagged, i.comments, i.conflict) == ('open', None, False, [], False) for i in self.ann.items())
        self.ann.close(); self.ben.close()


def test_back_to_the_beginning(tmp_path):
    Labelling.folder = tmp_path
    run_state_machine_as_test(Labelling, settings=settings(max_examples=12, stateful_step_count=18, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)))


def test_the_log_is_only_appended_to(tmp_path):
    session = fresh(tmp_path/'a.session')
    session.label(session.next().id, lamp())
    before = session.log.rows('SELECT * FROM event')
    session.undo(); session.redo(); session.rebuild()
    assert session.log.rows('SELECT * FROM event LIMIT ?', len(before)) == before
    with pytest.raises(Exception, match='only appended to'): session.log.db.execute('DELETE FROM event')


def test_order_and_round(tmp_path):
    "The order of the queue, skipped ones at the end, another's place last of all, new ones behind."
    session = fresh(tmp_path/'a.session')
    a, b, c, d = (i.id for i in session.items())
    session.order([d, b])
    assert [i.id for i in session.items()] == [d, b, a, c]
    session.add(['e'])
    ids = [i.id for i in session.items()]
    assert ids[:4] == [d, b, a, c] and session.next().id == d and session.next(b).id == a and session.next(ids[4]).id == d
    session.skip(d)
    assert session.next().id == b and session.next(ids[4]).id == b
    other = Session.open(session.path, 'ben')
    other.here(b)
    assert session.next().id == a and other.next().id == b
    for id in (a, c, ids[4]): session.label(id, lamp())
    assert session.next().id == d and session.next(d).id == b and other.next().id == b
    session.label(b, lamp())
    assert session.next(d).id == d and other.next(b).id == d
    session.label(d, lamp())
    assert session.next() is None is other.next(d)
    with pytest.raises(FaultError, match='stands twice'): session.order([a, a])
    with pytest.raises(FaultError, match='no such item'): session.order(['z'])
    last = session.last()
    session.order([d, b])
    assert session.last() == last, 'the same order is no event'


# --- from file to file ------------------------------------------------------------------------------------------------

odd = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=20) | st.sampled_from(
    ['<b>&amp;</b>', 'off\0on', '\ud83d', '\ud83d\ude00', '\u202eabc', '👩‍👩‍👧‍👦', '=1+1', "'=x", '\r\n', '_x000D_', '{"a": 1}', '<escape>', 'turn <start_function_call> off', '\ufeff', '\u2028', ' '])


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(odd, min_size=1, max_size=5, unique=True), room=odd, data=st.data())
def test_hostile_text(tmp_path_factory, texts, room, data):
    "Whatever a string holds comes back as it was, or is named as what cannot be a row."
    folder = tmp_path_factory.mktemp('odd')
    session = Session.create(folder/'a.session', [LAMP], texts, who='ann')
    for i in session.items():
        session.comment(i.id, 'x'+i.command)
        if session.faults(i.id, lamp(room)):
            with pytest.raises(FaultError): session.label(i.id, lamp(room))
            session.label(i.id, [], kind='no-call')
        else: session.label(i.id, lamp(room))
    again = Session.open(session.path, 'ben')
    items = again.items()
    assert [i.command for i in items] == texts and [i.comments[0].text for i in items] == ['x'+t for t in texts] and again.check() == []
    assert all(i.label.kind == 'no-call' or i.label.calls == [Call('set_light', {'room': room, 'on': True})] for i in items)
    rows = again.examples(unfit='leave out')
    assert len(rows)+len({f.row for f in again.notes}) == len(texts)
    if not rows: return
    try: read = read_examples(again.export(folder/'a.jsonl', unfit='leave out'), [LAMP])
    except FaultError as e: raise AssertionError('JSON lines hold everything that can be rendered') from e
    assert [(e['id'], e['messages']) for e in read] == [(e['id'], e['messages']) for e in rows]
    try: read = read_examples(again.export(folder/'a.xlsx', unfit='leave out'), [LAMP])
    except FaultError as e: assert not (folder/'a.xlsx').exists() and all(f.code in ('out', 'round-trip', 'empty-cell', 'not-text', 'formula', 'duplicate', 'contradiction') for f in e.faults), e
    else: assert [e['messages'] for e in read] == [e['messages'] for e in rows]


def test_round_trip_keeps_who_and_when(tmp_path):
    "Two sessions, merged over files of both forms: everybody's labels, times, remarks, and a conflict."
    one, other = fresh(tmp_path/'1.session', 'a', 'b', {'command': 'c', 'id': 'third', 'lang': 'en', 'note': 'kept'}), fresh(tmp_path/'2.session', 'a', 'b', 'z', who='ben')
    for s, room in ((one, 'hall'), (other, '客厅')):
        for k, i in enumerate(s.items()): s.label(i.id, lamp(room if k else 'hall'))
    one.comment('third', '“quoted”, 逗号\nnew line')
    merged = Session.create(tmp_path/'3.session', [LAMP], who='eva')
    merged.load(one.export(tmp_path/'1.jsonl')); merged.load(other.export(tmp_path/'2.xlsx'))
    assert merged.progress().total == 4 and merged.progress().conflicts == 1 and merged.check() == []
    for s in (one, other):
        for i in s.items():
            there = merged.item(i.id)
            assert there.labels[s.who] == i.labels[s.who] and there.command == i.command and there.lang == i.lang
    assert [c.text for c in merged.item('third').comments] == ['“quoted”, 逗号\nnew line'] and merged.item('third').extra == {'note': 'kept'}
    assert [c.about for c in conflicts(merged)] == ['room']
    merged.resolve(merged.conflicts()[0].id, lamp('stairs'))
    rows = read_examples(merged.export(tmp_path/'3.xlsx'), [LAMP])
    assert [r['extra']['labelled_by'] for r in rows] == ['ben', 'eva', 'ann', 'ben'] and rows[2]['extra']['note'] == 'kept'


def test_conversations_and_own_system(tmp_path):
    "Rows with a history and with a system message of their own come back whole."
    call = {'role': 'assistant', 'tool_calls': [{'type': 'function', 'function': {'name': 'set_light', 'arguments': {'room': 'hall', 'on': True}}}]}
    talks = [[{'role': 'user', 'content': '开灯'}, {'role': 'assistant', 'content': '哪个？'}, {'role': 'user', 'content': '客厅'}, call],
             [{'role': 'system', 'content': 'Be brief'}, {'role': 'user', 'content': 'light'}, call],
             [{'role': 'user', 'content': 'on'}, call, {'role': 'tool', 'name': 'set_light', 'content': {'ok': True}}, {'role': 'assistant', 'content': 'Done.'}]]
    path = tmp_path/'talks.jsonl'
    path.write_text(''.join(json.dumps({'id': str(i), 'messages': m}, ensure_ascii=False)+'\n' for i, m in enumerate(talks)), encoding='utf-8')
    rows = read_examples(path, [LAMP])
    session = Session.create(tmp_path/'a.session', [LAMP], who='ann')
    assert session.load(path) == 3 and session.progress().done == 3
    back = read_examples(session.export(tmp_path/'b.jsonl'), [LAMP])
    assert [e['messages'] for e in back] == [e['messages'] for e in rows] and [i.command for i in session.items()] == ['客厅', 'light', 'on']


def test_a_real_sheet(tmp_path):
    "All rows of a shipped sheet in and out."
    rows = read_examples('data/penguin/commands.xlsx', 'data/penguin/tools.json')
    session = Session.create(tmp_path/'a.session', 'data/penguin/tools.json', who='ann')
    assert session.load('data/penguin/commands.xlsx') == len(rows) == session.progress().done
    for name in ('b.jsonl', 'b.xlsx'):
        back = read_examples(session.export(tmp_path/name), session.tools)
        assert [(e['id'], e['messages'], e['group'], e['split'], e['lang']) for e in back] == [(e['id'], e['messages'], e['group'], e['split'], e['lang']) for e in rows]


def test_a_queue_of_lost_rows(tmp_path):
    from fgnb.flips import flip_report, write_queue
    from fgnb.format import render_call
    rows = lamps(6)
    right = [render_call(Call('set_light', e['messages'][-1]['tool_calls'][0]['function']['arguments'])) for e in rows]
    assert write_queue(tmp_path/'queue.jsonl', flip_report(right, right[:4]+['no', 'idea'], rows), rows) == 2
    session = Session.create(tmp_path/'a.session', [LAMP], who='ann', system='')
    assert session.load(tmp_path/'queue.jsonl') == 2 and session.progress().open == 2
    for i in session.items():
        assert i.extra['queue']['reason'] == 'lost' and [s.origin for s in i.suggestions] == ['wanted in queue.jsonl']
        assert session.label(i.id, i.suggestions[0]).origin == 'suggestion 1 of wanted in queue.jsonl'
    assert [e['messages'] for e in session.examples()] == [e['messages'] for e in rows[4:]]


# --- refused ----------------------------------------------------------------------------------------------------------

def test_refused(tmp_path):
    "What is refused writes nothing, and says everything that is wrong."
    session = fresh(tmp_path/'a.session')
    id, last = session.next().id, session.last()
    for answer, faults in (([lamp(3, 'x'), {'name': 'set_lamp'}], 3), (lamp('<escape>'), 1), (lamp(float('nan')), 1), ({'name': 'set_light', 'arguments': {1: 2}}, 1), (lamp('\ud83d'), 1), ('set_light()', 1)):
        with pytest.raises(FaultError) as e: session.label(id, answer)
        assert len(e.value.faults) == faults, e.value
    for content, kind in (('', 'ask'), ('<start_function_call>', 'no-call'), ('```json\n{"name": "x", "arguments": {}}\n```', 'no-call'), ('x'*20_000, 'no-call'), ('a', 'maybe'), ('', 'call')):
        with pytest.raises(FaultError): session.label(id, [], content, kind)
    with pytest.raises(FaultError, match='a comment is text'): session.comment(id, ' ')
    with pytest.raises(FaultError, match='another command'): session.add([{'id': id, 'command': 'something else'}])
    with pytest.raises(FaultError, match='not JSON'): session.suggest(id, [Suggestion([], 'x', float('nan'), 'run x')])
    assert session.last() == last and session.add(['a', 'b']) == 0 and len(session.notes) == 2
    with pytest.raises(FaultError, match='exists already'): fresh(session.path)
    with pytest.raises(FaultError, match='not a name'): Session.open(session.path, who='a\nb')
    bad = tmp_path/'bad.session'
    with pytest.raises(FaultError): Session.create(bad, [LAMP], [{'id': 'x', 'command': 'a'}, {'id': 'x', 'command': 'b'}])
    with pytest.raises(FaultError, match='control token'): Session.create(bad, [LAMP], system='<escape>')
    assert not bad.exists()


def test_other_tools(tmp_path):
    "Whoever comes with other tools is refused, and the rows of a file with other tools are."
    session = fresh(tmp_path/'a.session')
    other = json.loads(json.dumps(LAMP)); other['function']['description'] = 'Another'
    last = session.last()
    with pytest.raises(FaultError, match='differs from the one in the session'): Session.resume(session.path, [other], ['new'], who='ben')
    with pytest.raises(FaultError, match='another system message'): Session.resume(session.path, [LAMP], who='ben', system='Be brief')
    (tmp_path/'rows.jsonl').write_text(json.dumps(lamps(1)[0] | {'tools': [other]}))
    with pytest.raises(FaultError, match='other tools'): session.load(tmp_path/'rows.jsonl')
    assert session.last() == last and Session.resume(session.path, [LAMP], ['new'], who='ben').progress().total == 5


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() != 0 or not Path('/proc').is_dir(), reason='needs a user whom files are closed to')
def test_a_place_that_may_not_be_written_to(tmp_path):
    session = fresh(tmp_path/'a.session')
    session.label(session.next().id, lamp()); session.close()
    with pytest.raises(FaultError, match='/proc') as e: fresh(Path('/proc/a.session'))
    assert e.value.faults[0].code == 'read-only'
    for p in [tmp_path, *tmp_path.parents][:-1]: # let others in, to look
        if not os.stat(p).st_mode & 0o5: os.chmod(p, 0o755)
    os.chmod(tmp_path, 0o555); os.chmod(session.path, 0o444)
    child = os.fork()
    if not child: # only looks and tries, as somebody who owns nothing
        code = 1
        try:
            os.setgid(65534); os.setuid(65534)
            try: Session.open(session.path, who='nobody')
            except FaultError as e: code = 0 if e.faults[0].code == 'read-only' else 2
        finally: os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_full_disk(tmp_path):
    "No label that was refused for lack of room is half there."
    session = fresh(tmp_path/'a.session')
    id = session.next().id
    session.log.db.execute(f"PRAGMA max_page_count={session.log.rows('PRAGMA page_count')[0][0]+2}")
    kept = 0
    with pytest.raises(FaultError, match='the disk is full') as e:
        while True: session.comment(id, '灯'*3000); kept += 1
    assert e.value.faults[0].code == 'disk'
    again = Session.open(session.path, 'ben')
    assert len(again.item(id).comments) == kept and again.check() == []
    again.label(id, lamp())


def test_damage_is_told(tmp_path):
    session = fresh(tmp_path/'a.session', *(f'c{i}' for i in range(400)))
    session.close()
    data = bytearray(session.path.read_bytes())
    for at in range(4096*6, len(data), 4096): data[at:at+64] = b'\xff'*64
    session.path.write_bytes(data)
    try: assert any(f.code in ('damaged', 'gap') for f in Session.open(session.path).check())
    except FaultError as e: assert e.faults[0].code == 'damaged'


def test_a_copy_while_others_write(tmp_path):
    session = fresh(tmp_path/'a.session')
    session.label(session.next().id, lamp())
    copy = Session.open(session.copy(tmp_path/'b.session'), 'ann')
    assert said(copy) == said(session) and copy.check() == [] and copy.undo() and said(copy) != said(session)


# --- agreement --------------------------------------------------------------------------------------------------------

units = st.lists(st.lists(st.sampled_from('abc'), max_size=4), max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(units)
def test_alpha_is_its_definition(units):
    "Alpha from pairs of values, as 1 - observed/expected disagreement; bounded, blind to names and to the order of items and people."
    pooled = [v for u in units if len(u) > 1 for v in u]
    n = len(pooled)
    observed = sum((a != b)/(len(u)-1) for u in units if len(u) > 1 for i, a in enumerate(u) for j, b in enumerate(u) if i != j)/max(n, 1)
    expected = sum(a != b for i, a in enumerate(pooled) for j, b in enumerate(pooled) if i != j)/max(n*(n-1), 1)
    alpha = krippendorff_alpha(units)
    if not expected: assert alpha is None; return
    assert alpha == pytest.approx(1-observed/expected) and alpha <= 1
    assert alpha == pytest.approx(krippendorff_alpha([['xyz'['abc'.index(v)] for v in reversed(u)] for u in reversed(units)]))
    assert coefficient(units, 0).alpha == alpha


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from('abc'), st.sampled_from('abc')), max_size=15))
def test_kappa_is_its_definition(pairs):
    kappa, n = cohen_kappa(pairs), len(pairs)
    expected = sum(a == b for a, _ in pairs for _, b in pairs)/max(n*n, 1)
    if not pairs or expected == 1: assert kappa is None; return
    assert kappa == pytest.approx((sum(a == b for a, b in pairs)/n-expected)/(1-expected)) and kappa == pytest.approx(cohen_kappa([(b, a) for a, b in pairs]))


def test_decisions_do_not_raise_agreement(tmp_path):
    ann = fresh(tmp_path/'a.session', blind=True)
    ben, boss = Session.open(ann.path, 'ben', blind=True), Session.open(ann.path, 'eva')
    for s, answers in ((ann, (True, True, False, False)), (ben, (True, False, False, True))):
        for i, on in zip(s.items(), answers): s.label(i.id, lamp('hall', on))
    before = agreement(boss)
    assert before.tool.raw == 1 and before.tool.alpha is None and before.call.raw == .5 and [c.about for c in conflicts(boss)] == ['on', 'on']
    for c in conflicts(boss): boss.resolve(c.id, lamp())
    assert agreement(boss).call == before.call and conflicts(boss) == [] and len(boss.examples()) == 4 and agreement(boss).people == {'ann': 4, 'ben': 4}
    assert [e['extra']['labelled_by'] for e in boss.examples()].count('eva') == 2 and len(boss.examples(who='ann')) == 4 and len(ann.examples()) == 4
