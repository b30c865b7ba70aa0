"""More rows: by rule, judged by an oracle that knows the penguin's labelling rules; and from a teacher over real HTTP, killed in the middle."""
import json, os, re, signal, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fgnb.augment import augment, bare
from fgnb.config import load_config
from fgnb.core import FaultError, write_jsonl
from fgnb.data import check_pairs, command, gold_calls, read_examples
from fgnb.format import prompt_completion
from fgnb.mix import load_splits
from fgnb.schema import check_arguments
from fgnb.teacher import Replies, Teacher, paraphrase

root = Path(__file__).resolve().parent.parent

# The labelling rules of data/penguin/README.md, written down once more: the rules of augmentation know nothing of them.
ACTIONS = {'RUN_ACROSS': '跑到[^，]*?(?:对面|那头)|横穿', 'BACKFLIP': '后空翻|翻[^，]{0,2}跟头', 'SAD': '(?:难过|伤心)[的得地](?:表情|样子)|哭',
           'HAPPY': '(?:开心|高兴)[的得地](?:表情|样子)|笑', 'DANCE': '跳[^，再先后接最边下高]{0,4}舞蹈?|街舞|舞动|舞蹈', 'DAZZLE': '闪[^，]*发光|闪|发光',
           'SLEEP': '睡|盹', 'SHIVER': '抖[^，]?抖|抖|哆嗦', 'IDLE': '站|待|停', 'JUMP': '跳|蹦', 'RUN': '跑', 'WALK': '走[^，]?走|走|散步', 'SPIN': '旋转|转', 'FLY': '飞', 'SLIDE': '滑'}
MOODS = {'happy': ('开心|高兴|棒了', ['HAPPY']), 'sad': ('伤心|难过|想哭', ['SAD']), 'angry': ('生气|气死|别理', ['IDLE']), 'tired': ('累|困', ['SLEEP']),
         'scared': ('害怕|吓死|可怕', ['SHIVER', 'RUN']), 'excited': ('激动|兴奋|赢了', ['JUMP', 'DAZZLE']), 'cold': ('冷|冻', ['SHIVER']), 'bored': ('无聊|没意思|没劲', ['DANCE', 'SPIN'])}
PIECES = {'绝活': ['BACKFLIP', 'SPIN', 'DAZZLE'], '开场': ['RUN_ACROSS', 'BACKFLIP', 'DAZZLE'], '谢幕': ['SPIN', 'HAPPY'], '热身': ['WALK', 'RUN', 'JUMP'],
          '冰上表演': ['SLIDE', 'SPIN', 'DANCE'], '休息': ['WALK', 'SLEEP']}
DENIALS = ('(?P<b>.*)[，\\s]不是.*', '.*?不是[^，]*[，\\s]是(?P<b>.*)', '.*?(?:别|不要)[^，]*了?[，\\s](?:要)?(?P<b>.*)', '.*?不[^，看见]*了[，\\s]改成(?P<b>.*)', '.*(?:别|不要)再.*(?P<b>)')


def label(text: str) -> dict:
    "The arguments that the README's rules give to a command."
    for word, actions in PIECES.items():
        if word in text: return {'actions': actions}
    denied = next((m for p in DENIALS if '别理' not in text and (m := re.fullmatch(p, re.sub('^(嗯|嘿|那个|喂|哎)，', '', text)))), None)
    if denied: text = denied['b']
    mood = next((m for m, (p, _) in MOODS.items() if re.search(p, re.sub('(?:难过|伤心|开心|高兴)[的得地](?:表情|样子)', '', text))), None)
    found = [m.lastgroup for m in re.finditer('|'.join(f'(?P<{n}>{p})' for n, p in ACTIONS.items()), text.replace('想哭', ''))]
    actions = [a for i, a in enumerate(found) if not i or found[i-1] != a] or (['IDLE'] if denied else MOODS[mood][1] if mood else [])
    return {'actions': actions} | ({'emotion': mood} if mood else {})


def wrong(examples: list[dict]) -> list[tuple]:
    "Rows whose call is not what the rules say."
    rows = [e for e in examples if gold_calls(e) and e['kind'] != 'multi_turn']
    return [(e['id'], command(e), gold_calls(e)[0].arguments) for e in rows if label(command(e)) != gold_calls(e)[0].arguments]


@pytest.fixture(scope='module', params=['penguin', 'home', 'simple'])
def grown(request):
    "A shipped data set and its new rows."
    data = {'train': [f'data/{request.param}/commands.xlsx'], 'tools': f'data/{request.param}/tools.json'}
    config = load_config(request.param if request.param != 'simple' else None, ['data.augment=0', 'data.no_call_share=0', 'data.toolsets=0', *(f'data.{k}={json.dumps(v)}' for k, v in data.items())])
    splits = load_splits(config, quiet=True)
    held = splits['validation'] + splits['test']
    return request.param, splits['train'], held, *augment(splits['train'], 3, held_out=held, no_call_share=0.1)


def test_rows_are_sound(grown, tmp_path):
    "Every new row fits its schema, renders, is read back, is new, keeps group and split, and is nobody's held-out row."
    name, train, held, rows, report = grown
    assert len(rows) > {'penguin': 900, 'home': 900, 'simple': 10}[name]
    away = {bare(command(e)) for e in held}
    parents = {e['id']: e for e in train}
    for e in rows:
        tools = {t['function']['name']: t for t in e['tools']}
        assert all(check_arguments(tools[c.name], c.arguments) == [] for c in gold_calls(e))
        assert prompt_completion(e['messages'], e['tools'])[1]
        parent = parents[e['extra']['origin']['from']]
        assert (e['group'], e['split'], e['lang']) == (parent['group'], 'train', parent['lang'])
        assert bare(command(e)) not in away
    assert check_pairs([*train, *rows, *held]) == check_pairs([*train, *held])
    write_jsonl(tmp_path/'rows.jsonl', rows)
    assert read_examples(tmp_path/'rows.jsonl') == rows
    share = sum(not gold_calls(e) for e in [*train, *rows])/(len(train)+len(rows))
    assert share >= 0.1 and not report['no_call_missing'] # also where one tool leaves small talk only


def test_seeded():
    "One seed, one set of rows."
    train = load_splits(load_config('penguin', ['data.augment=0', 'data.no_call_share=0']), quiet=True)['train']
    made = [[command(e) for e in augment(train, 1, seed=seed)[0]] for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_labels_of_the_penguin():
    "Of 1,400 rows made by rule at least 99 % have the label that the data's own rules give, words and values swapped included."
    splits = load_splits(load_config('penguin', ['data.augment=0', 'data.no_call_share=0']), quiet=True)
    known = [e for e in splits['train'] if gold_calls(e)]
    assert len(wrong(known)) <= 2 # the oracle itself
    rows, _ = augment(splits['train'], rules={'swap': 500, 'correct': 200, 'join': 300, 'mood': 200, 'spell': 200}, held_out=splits['validation']+splits['test'])
    assert len(rows) > 1300
    bad = wrong(rows)
    assert len(bad) < 0.01*len(rows), bad[:20]
    assert not [b for b in bad if '~spell' not in b[0]], bad


def test_held_out_is_no_source():
    splits = load_splits(load_config('home', ['data.augment=0', 'data.toolsets=0']), quiet=True)
    with pytest.raises(FaultError, match='must not be augmented'): augment(splits['train']+splits['test'][:2], 1)
    teacher = Teacher('m', 'http://127.0.0.1:9/v1', max_requests=1)
    with pytest.raises(FaultError, match='must not be augmented'): paraphrase(teacher, splits['validation'][:2])
    assert teacher.requests == 0


# --- the teacher ------------------------------------------------------------------------------------------------------

class Server(BaseHTTPRequestHandler):
    "Chat completions: each reply is two commands made of the one asked about; `slow` seconds late; faults first."
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        server = self.server
        server.asked.append(body)
        fault = server.faults.pop(0) if server.faults else None
        time.sleep(server.slow)
        said = json.loads(re.search(r'asks for it: (".*")', body['messages'][1]['content'])[1])
        content = json.dumps([f'喂喂，{said}好不好嘛', f'我说，{said}'], ensure_ascii=False)
        data = json.dumps({'id': 'x', 'object': 'chat.completion', 'created': 0, 'model': 'm', 'usage': {'prompt_tokens': 9, 'completion_tokens': 3, 'total_tokens': 12},
                           'choices': [{'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': content}}]}).encode()
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header('Content-Type', 'application/json')
        if fault == 429: self.send_header('Retry-After', '1')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data[:20] if fault == 'cut' else data)

    def log_message(self, *args): pass


@pytest.fixture
def server():
    s = ThreadingHTTPServer(('127.0.0.1', 0), Server)
    s.asked, s.faults, s.slow = [], [], 0
    threading.Thread(target=s.serve_forever, daemon=True).start()
    s.url = f'http://127.0.0.1:{s.server_port}/v1'
    yield s
    s.shutdown()


@pytest.fixture(scope='module')
def basic():
    splits = load_splits(load_config('penguin', ['data.augment=0', 'data.no_call_share=0']), quiet=True)
    return splits['train'], [e for e in splits['train'] if e['kind'] == 'basic'][:12]


def test_teacher_faults(server, basic, tmp_path):
    "429 and a cut body cost a retry, not a row; a reply that is slower than the limit is given up and not kept."
    train, asked = basic
    server.faults = [429, 'cut']
    teacher = Teacher('m', server.url, 'secret', tmp_path/'t.jsonl')
    rows, report = paraphrase(teacher, asked[:2], held_out=[], train=train, quiet=True)
    assert len(rows) == 4 and len(server.asked) == teacher.requests == 4 and teacher.refused == 1
    server.slow = 1.0
    late = Teacher('m', server.url, 'secret', tmp_path/'t.jsonl', timeout=0.3, retries=0)
    rows, report = paraphrase(late, asked[2:8], train=train, quiet=True)
    assert rows == [] and report['stopped'] == 'no reply, three times in a row' and late.requests == 3
    assert len(Replies(tmp_path/'t.jsonl').known) == 2 and 'secret' not in (tmp_path/'t.jsonl').read_text()


def test_teacher_killed_and_resumed(server, basic, tmp_path):
    "A process killed in the middle loses at most the request under way; the next one asks only for the rest."
    train, asked = basic
    server.slow = 0.15
    code = f"""
from fgnb.config import load_config
from fgnb.mix import load_splits
from fgnb.teacher import Teacher, paraphrase
train = load_splits(load_config('penguin', ['data.augment=0', 'data.no_call_share=0']), quiet=True)['train']
paraphrase(Teacher('m', {server.url!r}, cache={str(tmp_path/'t.jsonl')!r}), [e for e in train if e['kind'] == 'basic'][:12], train=train, quiet=True)
"""
    process = subprocess.Popen([sys.executable, '-c', code], cwd=root, env={**os.environ, 'PYTHONPATH': str(root)})
    for _ in range(400):
        if len(server.asked) > 4: break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL); process.wait()
    kept, before = len(Replies(tmp_path/'t.jsonl').known), len(server.asked)
    assert 4 <= kept < 12 and before-kept <= 1
    rows, report = paraphrase(Teacher('m', server.url, cache=tmp_path/'t.jsonl'), asked, train=train, quiet=True)
    assert report['cached'] == kept and report['requests'] == 12-kept == len(server.asked)-before
    assert len(rows) == 24 and all(e['extra']['origin']['model'] == 'm' for e in rows)
